"""placeholder"""
def write_profile(out, records): return out
