"""What every floor may use: errors, the field's labels, keys, digests and safe file writing."""
