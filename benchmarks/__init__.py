"""What `make bench` runs: SliceWise beside the usual way, on the same data, in the same minute."""
