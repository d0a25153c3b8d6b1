"""Small faults in the library, one at a time: do the tests notice?"""
