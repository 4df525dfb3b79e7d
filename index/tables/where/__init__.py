"""``where``: conditions over the item columns, looked at before the storage layer sees them."""
