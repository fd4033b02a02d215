"""Text from outside as it can stand in a message: in one line, of bearable length, and harmless to a terminal."""


def shown(text: str, longest: int = 200) -> str:
    """The text, cut where it is longer than ``longest``, and with escapes for what cannot be seen."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in cut)
