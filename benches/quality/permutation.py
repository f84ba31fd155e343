"""The permutation that numpy's `default_rng(seed).permutation(n)` gives, in plain Python.

So that a shuffled stream needs nothing installed, and stays the same should numpy change its stream. SeedSequence and PCG64 (O'Neill 2014)
as numpy 2 has them, draws masked and rejected, Fisher-Yates from the end. `tests.py` holds it against numpy's answers.
"""

MASK32, MASK64, MASK128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


def permutation(seed, n):
    """The rows 0 to n - 1 in shuffled order."""
    draw32 = _draws(seed)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        mask = (1 << i.bit_length()) - 1
        while (j := draw32() & mask) > i:
            pass
        order[i], order[j] = order[j], order[i]
    return order


def _draws(seed):
    """A function that gives the next 32 bits: the lower half of a 64-bit draw first, then the upper one."""
    a, b, c, d = _seed_words(seed)
    increment = ((c << 64 | d) << 1 | 1) & MASK128
    state = ((increment + (a << 64 | b)) * PCG_MULTIPLIER + increment) & MASK128
    kept = None

    def draw32():
        nonlocal state, kept
        if kept is not None:
            half, kept = kept, None
            return half
        state = (state * PCG_MULTIPLIER + increment) & MASK128
        folded, turn = (state >> 64) ^ (state & MASK64), state >> 122
        whole = (folded >> turn | folded << (64 - turn)) & MASK64
        kept = whole >> 32
        return whole & MASK32

    return draw32


def _seed_words(seed):
    """Four 64-bit words of a seed below 2^32."""
    if not 0 <= seed <= MASK32:
        raise ValueError(f"a seed is a whole number from 0 to {MASK32}, not {seed}")
    constant = 0x43B0D7E5

    def hashed(value):
        nonlocal constant
        value ^= constant
        constant = constant * 0x931E8875 & MASK32
        value = value * constant & MASK32
        return value ^ value >> 16

    pool = [hashed(word) for word in (seed, 0, 0, 0)]
    for source in range(4):
        for target in range(4):
            if source != target:
                mixed = (0xCA01F9DD * pool[target] - 0x4973F715 * hashed(pool[source])) & MASK32
                pool[target] = mixed ^ mixed >> 16
    constant, words = 0x8B51F9DD, []
    for at in range(8):
        value = pool[at % 4] ^ constant
        constant = constant * 0x58F38DED & MASK32
        value = value * constant & MASK32
        words.append(value ^ value >> 16)
    return [words[at] | words[at + 1] << 32 for at in range(0, 8, 2)]
