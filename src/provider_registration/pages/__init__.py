"""What every page for people is made with: templates, static files, forms, notices, errors. It knows no feature."""
