"""The protocol under faults: production state machines in virtual time, and checkers apart from them."""
