"""Outside values in messages."""


def printable(text: str, limit: int = 60) -> str:
    """`text` quoted for a one-line message: control and non-ASCII characters escaped, long text cut."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else quoted[:limit] + "…'"
