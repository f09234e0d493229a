"""Parts of messages for people."""


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line, for use inside another message."""
    return " ".join(str(error).split())
