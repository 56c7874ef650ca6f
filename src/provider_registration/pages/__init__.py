"""Shared code of the HTML pages: templates, static files, forms, flash messages, error pages. It uses no feature."""
