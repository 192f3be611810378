"""The real servers that tests talk to: started on loopback and free ports, ended by process id."""
