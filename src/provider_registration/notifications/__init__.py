"""E-mail to companies and staff: what happened to an application, and lost links."""
