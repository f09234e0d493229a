"""English function words, which name nothing that an image could show."""

_FUNCTION_WORDS = """
    a an the this that these those such same other another each every either neither both all any some few
    more most much many several no nor not none only own
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her
    hers herself it its itself they them their theirs themselves one ones someone somebody something anyone
    anybody anything everyone everybody everything nobody nothing
    who whom whose which what when where why how whether
    am is are was were be been being do does did doing done has have had having can could may might must shall
    should will would ought cannot
    and but or so yet if because as while although though unless until since than then else
    about above across after against along among around at away back before behind below beneath beside
    besides between beyond by despite down during except for from in inside into like near of off on onto out
    outside over past per through throughout to toward towards under underneath up upon via with within
    without again almost already also always anyway here there hence however indeed instead just maybe even
    ever never now often once perhaps quite rather really sometimes soon still therefore thus too very well
    isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't couldn't mightn't mustn't
    shan't shouldn't won't wouldn't i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd
    she'll it's it'd it'll we're we've we'd we'll they're they've they'd they'll that's that'll there's what's
    who's where's how's let's
"""

STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def is_content_word(word: str, *, drop_stopwords: bool = True) -> bool:
    """Return whether a word may be kept: it has a letter or a digit, and function words may be dropped.

    >>> [is_content_word(word) for word in ("dog", "The", "isn’t", "--", "2")]
    [True, False, False, False, True]
    >>> is_content_word("The", drop_stopwords=False)
    True
    """
    if not any(character.isalnum() for character in word):
        return False
    return not drop_stopwords or word.lower().replace("’", "'") not in STOP_WORDS
