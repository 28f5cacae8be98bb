"""Stand-ins and real parts on loopback, for the demo and the tests; not shipped in the wheel."""
