"""What an application declares: endpoints, transport and security properties, credentials, trust, messages.

Nouns only: frozen values that check themselves. Each error names the property, the value and what was expected.
"""
