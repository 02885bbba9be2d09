"""A page's own controls: from the selection to a query, one module a page."""
