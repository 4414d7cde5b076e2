"""Pages for people: reports and the console, as HTML, Markdown and SVG. Knows documents only."""
