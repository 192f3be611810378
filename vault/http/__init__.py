"""What pages and API share: who is asking, what is received and sent, what an error becomes, headers.

This room knows HTTP and the services. It never imports the database, the models, the crypto or a store, and it
commits nothing.
"""
