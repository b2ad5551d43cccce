"""The book: links that lead somewhere, pages that are listed, settings that are all there."""

import re
import unicodedata

FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def book(tools):
    source = tools.root / "docs/src"
    pages = {page: FENCE.sub("", page.read_text()) for page in source.rglob("*.md")}
    anchors = {page: anchors_of(text) for page, text in pages.items()}
    faults = []
    for page, text in pages.items():
        name = page.relative_to(source)
        for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists():
                faults.append(f"{name}: {link} leads nowhere")
            elif anchor and anchor not in anchors.get(target, ()):
                faults.append(f"{name}: {link}: no such heading")
            elif target.suffix == ".md" and source not in target.parents:
                faults.append(f"{name}: {link} leads out of the book")
    summary = pages[source / "SUMMARY.md"]
    listed = LINK.findall(summary)
    for page in pages:
        name = str(page.relative_to(source))
        if name != "SUMMARY.md" and listed.count(name) != 1:
            faults.append(f"SUMMARY.md names {name} {listed.count(name)} times")
    return faults + settings(tools, pages[source / "operate/configuration.md"])


def anchors_of(text):
    """The ids that mdBook gives to headings."""
    found = {}
    for heading in re.findall(r"^#+ +(.*?)\s*$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = "".join(c for c in unicodedata.normalize("NFC", heading.lower()) if c.isalnum() or c in " _-")
        anchor = re.sub(r"\s", "-", plain.strip())
        count = found.get(anchor, 0)
        found[anchor] = count + 1
        if count:
            found[f"{anchor}-{count}"] = 1
    return set(found)


def settings(tools, page):
    """Every key of the configuration is in the page's table of its section, and no other is."""
    schema = tools.schema()
    resolve = lambda node: schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    sections = {}
    for heading, body in re.findall(r"^## `\[([a-z_.A-Z]+)\]`\n(.*?)(?=^## |\Z)", page, re.M | re.S):
        sections[heading] = set(re.findall(r"^\| `([a-z_]+)` \|", body, re.M))
    faults = []

    def look(name, node):
        for alternative in node.get("anyOf", []) + node.get("oneOf", []) + node.get("allOf", []):
            node = {**node, **{k: v for k, v in resolve(alternative).items() if k == "properties"}}
        keys = node.get("properties")
        if keys is None:
            return
        # A table of its own within a table has a section of its own.
        tables = {k for k, v in keys.items() if table(v)}
        wanted = set(keys) - tables
        have = sections.get(name, set())
        faults.extend(f"configuration.md: [{name}] {key} is missing" for key in sorted(wanted - have))
        faults.extend(f"configuration.md: [{name}] {key} is no setting" for key in sorted(have - wanted))
        for key in tables:
            look(f"{name}.{key}", resolve(table(keys[key])))

    def table(node):
        for candidate in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
            if "$ref" in candidate and "properties" in resolve(candidate):
                return candidate
        return None

    for name, node in schema["properties"].items():
        if found := table(node):
            look(name, resolve(found))
    return faults
