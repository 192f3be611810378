"""Say in words what a person logs in with, so that he knows his own devices in the list of his sessions."""

BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("docvault", "docvault command"),
    ("curl/", "curl"),
    ("python", "Python"),
)
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def describe_client(user_agent: str) -> str:
    """Turn a User-Agent into ``Firefox on Linux``. It is only a claim: shown to its owner, trusted for nothing."""
    name = next((word for mark, word in BROWSERS if mark in user_agent), "")
    system = next((word for mark, word in SYSTEMS if mark in user_agent), "")
    return " on ".join(part for part in (name, system) if part) or "Unknown program"
