"""Toolkit of the HTML pages: templates, static files, forms, flash messages, error pages. It knows no feature."""
