"""Who somebody is on this site: from an identity to a POSIX account."""
