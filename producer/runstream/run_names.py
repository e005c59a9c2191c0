"""Names of runs that nobody named: an adjective, an animal and a number, such as ``brave-heron-412``."""

from random import Random
from typing import Final

__all__ = ["generate"]

_ADJECTIVES: Final = """
able agile amber ample ardent balmy bold brave breezy brief bright brisk calm candid careful cheery chief civil clean
clear clever cosmic crisp curious daring deft delicate direct eager early earnest easy elder elegant even exact fair
famous fancy fast fine firm fleet fluent fond frank free fresh gentle gifted glad golden grand great happy hardy hasty
hearty honest humble ideal jolly keen kind large lively loyal lucid lucky mellow merry mighty mild modest neat nimble
noble patient plain polite prime proud prudent quick quiet rapid rare ready robust rosy round serene sharp shy silent
silver smart smooth sober solar solid spry stable stately steady still stout sturdy subtle sunny swift tender tidy
tranquil true trusty upbeat valiant vivid warm wise witty young zesty
""".split()  # noqa: SIM905 - a list literal would be a word a line

_ANIMALS: Final = """
adder albatross alpaca antelope auk badger bat bear beaver bee beetle bison bittern boar bobcat buffalo bustard buzzard
camel caribou carp cat cheetah chough civet cobra cod condor coot cormorant cougar coyote crab crane cricket crow curlew
deer dingo dolphin dormouse dove duck dunlin eagle eel egret eland elk emu ermine falcon ferret finch fox frog gannet
gazelle gecko gibbon goat goose grebe grouse gull hamster hare hawk heron hornet horse hyena ibex ibis iguana impala
jackal jackdaw jaguar jay kestrel kite kiwi koala kudu lapwing lark lemming lemur leopard linnet lion lizard llama
lobster lynx magpie mallard marmot marten merlin mink mole moose moth mouse newt ocelot oriole osprey otter owl panda
panther parrot pelican penguin petrel pheasant pigeon plover puffin puma quail rabbit raven robin rook
""".split()  # noqa: SIM905 - a list literal would be a word a line

_NUMBERS: Final = 1000


def generate(random: Random) -> str:
    """A name, from the generator that is passed in: the program's own random numbers stay as they are."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}-{random.randrange(_NUMBERS)}"
