"""Shared by the HTML pages: templates, static files, forms, flash messages, error pages. Independent of features."""
