"""What an application calls: Preconnection, Connection, Listener, and what lies between them and the sockets."""
