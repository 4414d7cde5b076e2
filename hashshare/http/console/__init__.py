"""The console: pages for admins and auditors, in a browser that shows a client certificate.

Whatever comes from members is text to the templates, which escape it. Hash values stand in no URL.
What governance has to sign, the console only proposes: it holds no key (docs/adr/0019).
"""
