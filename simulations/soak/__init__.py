"""A calm deployment under steady load for long: do memory, descriptors and threads stay?"""
