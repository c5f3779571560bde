"""Data sets, one file each: found on this machine or downloaded, checked, and split once and for all."""
