"""What a bad disk does to the bytes of a file, in place; drawn from a random source."""

__all__ = ["flip", "flip_many", "lose_sector"]


def flip(data, source):
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def flip_many(data, source):
    for _ in range(source.randrange(2, 40)):
        flip(data, source)


def lose_sector(data, source):
    start = source.randrange(len(data) // 512) * 512
    data[start : start + 512] = source.choice([bytes(512), source.randbytes(512)])
