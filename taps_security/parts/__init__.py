"""Small machines that two or more protocols use. Sans-IO."""
