"""The command line: it only translates options into objects and errors into exit statuses."""
