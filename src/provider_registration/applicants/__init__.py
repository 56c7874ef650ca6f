"""The pages for companies: the application form and the status page."""
