"""Transport Services for asyncio over every transport security protocol of RFC 8922."""
