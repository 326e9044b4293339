"""URNs as the provider's project listings print them (`do:droplet:123`) -> the kind and id of the thing they name.

One thing has several URN names over the years and between clients; they all lead to one kind here. Which names a kind has is data in
`kinds.py`. Nothing here asks the provider.
"""

from arcadia_dagster.digitalocean.kinds import KINDS

_KIND_OF_URN_NAME = {name: kind.name for kind in KINDS.values() for name in kind.urn_names}


def parse_urn(urn: str) -> tuple[str, str]:
    """The (kind, provider id) that a URN names.

    A URN name that no kind claims is a kind of its own, so that nothing in a project is lost when the provider adds a product.

    Raises ValueError for text that is no `do:NAME:ID`.
    """
    parts = str(urn).split(":", 2)
    if len(parts) != 3 or parts[0] != "do" or not parts[1] or not parts[2]:
        raise ValueError(f"{urn!r} is not a DigitalOcean URN of the form do:NAME:ID")
    name = parts[1].lower()
    return _KIND_OF_URN_NAME.get(name, name), parts[2]
