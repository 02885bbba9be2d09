"""Bytes of weight files by range, their headers, and rows of their tensors; no format's meaning is known here."""
