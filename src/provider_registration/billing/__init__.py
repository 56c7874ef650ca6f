"""The billing service, where an approved candidate becomes a provider."""
