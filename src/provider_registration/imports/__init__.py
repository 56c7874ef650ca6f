"""Imports of companies from CSV and XLSX files: reading, mapping, checking, registering."""
