r"""The answer normalisation of the official VQA evaluator, as it is and not as it was meant.

Known oddities, kept: punctuation next to a space anywhere in the text is deleted, else it becomes a space; the
pattern that strips periods means to look behind but does not, and its flag stands where the count belongs, so at most
32 periods go; the contraction "somebody'd" loses its apostrophe.
"""

import functools
import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
DIGIT_COMMA_DIGIT = re.compile(r"[0-9],[0-9]")
PERIOD = re.compile(r"\.(?![0-9])")
PERIODS_REMOVED = 32
_NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
ARTICLES = ("a", "an", "the")

# Each form and the spellings that become it.
_CONTRACTIONS = """
ain't aint | aren't arent | can't cant | could've couldve | couldn't couldnt | couldn't've couldn'tve couldnt've
didn't didnt | doesn't doesnt | don't dont | hadn't hadnt | hadn't've hadnt've hadn'tve | hasn't hasnt | haven't havent
he'd hed | he'd've hed've he'dve | he's hes | how'd howd | how'll howll | how's hows | isn't isnt
it'd itd | it'd've itd've it'dve | it'll itll | ma'am maam | mightn't mightnt | mightn't've mightnt've mightn'tve
might've mightve | mustn't mustnt | must've mustve | needn't neednt | not've notve | o'clock oclock | oughtn't oughtnt
'ow's'at ow's'at 'ows'at 'ow'sat | shan't shant | she'd've shed've she'dve | should've shouldve | shouldn't shouldnt
shouldn't've shouldnt've shouldn'tve | somebodyd somebody'd | somebody'd've somebodyd've somebody'dve
somebody'll somebodyll | somebody's somebodys | someone'd someoned | someone'd've someoned've someone'dve
someone'll someonell | someone's someones | something'd somethingd | something'd've somethingd've something'dve
something'll somethingll | that's thats | there'd thered | there'd've thered've there'dve | there're therere
there's theres | they'd theyd | they'd've theyd've they'dve | they'll theyll | they're theyre | they've theyve
'twas twas | wasn't wasnt | we'd've wed've we'dve | we've weve | weren't werent | what'll whatll | what're whatre
what's whats | what've whatve | when's whens | where'd whered | where's wheres | where've whereve | who'd whod
who'd've whod've who'dve | who'll wholl | who's whos | who've whove | why'll whyll | why're whyre | why's whys
won't wont | would've wouldve | wouldn't wouldnt | wouldn't've wouldnt've wouldn'tve | y'all yall
y'all'll yall'll y'allll | y'all'd've yall'd've y'alld've y'all'dve | you'd youd | you'd've youd've you'dve
you'll youll | you're youre | you've youve
"""
CONTRACTIONS = {
    spelling: form
    for form, *spellings in (entry.split() for entry in _CONTRACTIONS.strip().replace("\n", "|").split("|"))
    for spelling in spellings
}


def clean(answer: str) -> str:
    """What is done to every answer: newlines and tabs become spaces, spaces around it go.

    >>> clean(" red\\tand blue\\n")
    'red and blue'
    """
    return answer.replace("\n", " ").replace("\t", " ").strip()


@functools.lru_cache(maxsize=2**16)  # the same few answers come again and again
def normalise(answer: str) -> str:
    """What is done to a clean answer where the annotators disagree: punctuation, numbers, articles, contractions.

    >>> [normalise(answer) for answer in ("A dog.", "Two", "1,000", "red-white", "red - white", "dont know")]
    ['dog', '2', '1000', 'red white', 'red white', "don't know"]
    """
    text = answer
    commas = DIGIT_COMMA_DIGIT.search(answer) is not None
    for mark in PUNCTUATION:
        deleted = commas or mark + " " in answer or " " + mark in answer
        text = text.replace(mark, "" if deleted else " ")
    text = PERIOD.sub("", text, count=PERIODS_REMOVED)
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
