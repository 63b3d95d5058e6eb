"""Opens files with the parsers that others use, and says what it finds, a line of JSON a file: its
outline, which a translation must not change, and its texts. What is no text of a file, such as a
script, stands in the outline. Usage: second_reader.py FOLDER, or second_reader.py make FOLDER to
write the files that only a library can make."""
import csv
import ctypes
import ctypes.util
import io
import json
import os
import re
import subprocess
import sys


def plain(value, texts, outline, at="", wanted=lambda at: True):
    """Walks what JSON or YAML gives."""
    if isinstance(value, dict):
        for key, v in value.items():
            plain(v, texts, outline, at + "/" + str(key), wanted)
    elif isinstance(value, list):
        for i, v in enumerate(value):
            plain(v, texts, outline, at + "/" + str(i), wanted)
    elif isinstance(value, str) and wanted(at):
        outline.append(at)
        texts.append(value)
    else:
        outline.append([at, value])


def twice(pairs):
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key is there twice")
    return dict(pairs)


def read_json(name, texts, outline):
    said = json.load(open(name, encoding="utf-8"), object_pairs_hook=twice)
    base = os.path.basename(name)
    if base == "messages.json":
        plain(said, texts, outline, wanted=lambda at: at.endswith("/message"))
    elif base.endswith(".arb"):
        plain(said, texts, outline, wanted=lambda at: "@" not in at)
        outline[:] = [o for o in outline if o[0] != "/@@locale"]
    else:
        plain(said, texts, outline)
        # Spanish has a plural form more than English.
        drop = [i for i, o in enumerate(outline) if str(o).endswith("_many")]
        texts[:] = [t for i, t in enumerate(texts) if i not in drop or len(outline) != len(texts)]
        outline[:] = [o for i, o in enumerate(outline) if i not in drop]


def read_yaml(name, texts, outline):
    import yaml
    said = yaml.safe_load(open(name, encoding="utf-8"))
    if list(said) in (["en"], ["es"]):
        said = {"LANG": next(iter(said.values()))}
    plain(said, texts, outline)


def elements(root, texts, outline, still, attributes=()):
    def walk(e, kept):
        if not isinstance(e.tag, str):
            outline.append(["comment", e.text])
        else:
            kept = kept or still(e)
            own = {k: v for k, v in e.attrib.items() if k not in attributes}
            said = [v for k, v in e.attrib.items() if k in attributes]
            (outline if kept else texts).extend(said)
            outline.append([e.tag, sorted(own.items())])
            put(e.text, kept)
            for child in e:
                walk(child, kept)
                put(child.tail, kept)
            outline.append("/")
    def put(text, kept):
        if text and text.strip():
            (outline if kept else texts).append(" ".join(text.split()))
    walk(root, False)


def read_xml(name, texts, outline):
    from lxml import etree
    root = etree.parse(name, etree.XMLParser(resolve_entities=False)).getroot()
    if name.endswith(".xlf"):
        # Who translates adds a target to each unit; all else stays.
        for target in [e for e in root.iter() if isinstance(e.tag, str) and etree.QName(e).localname == "target"]:
            texts.append(" ".join("".join(target.itertext()).split()))
            target.getparent().remove(target)
        for e in root.iter():
            for key in ("target-language", "trgLang", "state"):
                e.attrib.pop(key, None)
        elements(root, outline, outline, lambda e: True)
        return
    elements(root, texts, outline, lambda e: e.get("translatable") == "false" or e.get("translate") == "no")


def read_html(name, texts, outline):
    import html5lib
    root = html5lib.parse(open(name, "rb").read(), treebuilder="lxml", namespaceHTMLElements=False).getroot()
    for e in root.iter("html"):
        e.attrib.pop("lang", None)
    still = {"script", "style", "pre", "textarea", "svg", "code"}
    for e in root.iter("input"):
        if e.get("type") in ("submit", "button", "reset"):
            texts.append(e.attrib.pop("value"))
    elements(root, texts, outline, lambda e: e.tag in still or e.get("translate") == "no" or "notranslate" in e.get("class", ""),
             ("title", "alt", "placeholder", "aria-label", "content"))


def tags(text):
    return re.findall(r"<[^<>]*>|\{\\[^{}]*\}", text)


def read_srt(name, texts, outline):
    import srt
    for cue in srt.parse(open(name, encoding="utf-8").read(), ignore_errors=False):
        outline.append([cue.index, str(cue.start), str(cue.end), cue.proprietary, tags(cue.content)])
        texts.append(cue.content)


def read_vtt(name, texts, outline):
    import webvtt
    for cue in webvtt.read(name):
        outline.append([cue.start, cue.end, cue.identifier, tags(cue.raw_text)])
        texts.append(cue.text)


class Event(ctypes.Structure):
    _fields_ = [("start", ctypes.c_longlong), ("duration", ctypes.c_longlong), ("order", ctypes.c_int), ("layer", ctypes.c_int), ("style", ctypes.c_int), ("name", ctypes.c_char_p),
                ("l", ctypes.c_int), ("r", ctypes.c_int), ("v", ctypes.c_int), ("effect", ctypes.c_char_p), ("text", ctypes.c_char_p), ("render", ctypes.c_void_p)]


class Track(ctypes.Structure):
    _fields_ = [("styles", ctypes.c_int), ("max_styles", ctypes.c_int), ("count", ctypes.c_int), ("max_events", ctypes.c_int), ("style", ctypes.c_void_p), ("events", ctypes.POINTER(Event))]


def read_ass(name, texts, outline):
    """With libass, which players show such subtitles with."""
    where = ctypes.util.find_library("ass")
    if not where:
        raise ImportError("libass")
    ass = ctypes.CDLL(where)
    ass.ass_library_init.restype = ctypes.c_void_p
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: None)
    ass.ass_set_message_cb.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library = ass.ass_library_init()
    ass.ass_set_message_cb(library, ctypes.cast(quiet, ctypes.c_void_p), None)
    ass.ass_read_memory.restype = ctypes.POINTER(Track)
    ass.ass_read_memory.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    content = open(name, "rb").read()
    track = ass.ass_read_memory(library, ctypes.create_string_buffer(content), len(content), None).contents
    outline.append(["styles", track.styles])
    for e in track.events[:track.count]:
        outline.append([e.start, e.duration, e.layer, e.style, e.name.decode(), e.l, e.r, e.v, e.effect.decode(), tags(e.text.decode())])
        texts.append(e.text.decode())


def read_md(name, texts, outline):
    from lxml import etree
    content = re.sub(r"\A---\n.*?\n---\n", "", open(name, encoding="utf-8").read(), flags=re.S)
    try:
        said = subprocess.run(["cmark", "-t", "xml"], input=content.encode(), capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ImportError("cmark")
    root = etree.fromstring(re.sub(rb"<!DOCTYPE[^>]*>", b"", said))
    for e in list(root.iter()):
        # Where lines are broken is layout; where one has to be, is not.
        if etree.QName(e).localname == "softbreak":
            e.getparent().remove(e)
    tag = lambda e: etree.QName(e).localname
    for event, e in etree.iterwalk(root, events=("start", "end")):
        if event == "end":
            outline.append("/")
        elif tag(e) == "text":
            texts.append(e.text)
            outline.pop() if outline and outline[-1] == "text" else None
            outline.append("text")
        else:
            outline.append([tag(e), {k: v for k, v in sorted(e.attrib.items()) if k != "title"}, e.text if tag(e) in ("code", "code_block", "html_block", "html_inline") else None])
    # Texts of one paragraph follow each other, however many lines they have.
    flat = json.dumps(outline)
    while '"text", "/", "text", "/"' in flat:
        flat = flat.replace('"text", "/", "text", "/"', '"text", "/"')
    outline[:] = json.loads(flat)


def read_po(name, texts, outline):
    import polib
    if os.path.basename(name) != "app.pot" or polib.pofile(name)[0].msgstr:
        subprocess.run(["msgfmt", "-c", "-o", os.devnull, name], check=True, capture_output=True)
    for e in polib.pofile(name):
        outline.append([e.msgctxt, e.msgid, e.msgid_plural, e.comment, e.occurrences, e.obsolete, [f for f in e.flags if f != "fuzzy"]])
        texts.extend([e.msgstr] if not e.msgid_plural else [e.msgstr_plural[n] for n in sorted(e.msgstr_plural)])


def read_properties(name, texts, outline):
    from translate.storage import properties
    store = properties.propfile(open(name, "rb"), personality="strings-utf8" if name.endswith(".strings") else "java")
    for unit in store.units:
        outline.append([unit.name, [c.strip() for c in unit.comments]])
        texts.append(unit.source)


def read_csv(name, texts, outline):
    content = open(name, encoding="utf-8", newline="").read()
    rows = list(csv.reader(io.StringIO(content), delimiter=";" if name.endswith("plain.csv") else ",", strict=True))
    at = rows[0].index("target" if "target" in rows[0] else "text")
    for row in rows:
        outline.append(row[:at] + row[at + 1:])
        texts.append(row[at])


def read_txt(name, texts, outline):
    lines = open(name, encoding="utf-8").read().split("\n")
    outline.extend(not line.strip() for line in lines)
    texts.extend(lines)


def read_docx(name, texts, outline):
    import docx
    document = docx.Document(name)
    cells = [p for t in document.tables for row in t.rows for c in row.cells for p in c.paragraphs]
    for p in list(document.paragraphs) + cells + list(document.sections[0].header.paragraphs):
        outline.append([p.style.name, [[r.bold, r.italic] for r in p.runs if r.text.strip()]])
        texts.append(p.text)


def make(folder):
    import docx
    document = docx.Document()
    document.add_heading("A heading", 1)
    p = document.add_paragraph("This is a ")
    p.add_run("very big").bold = True
    p.add_run(" house with a green door.")
    document.add_paragraph("The first thing.", style="List Bullet")
    document.add_table(1, 2).rows[0].cells[1].text = "The second thing."
    document.sections[0].header.paragraphs[0].text = "The name of the book"
    document.save(os.path.join(folder, "letter.docx"))


readers = {".arb": read_json, ".json": read_json, ".yaml": read_yaml, ".xml": read_xml, ".xlf": read_xml, ".html": read_html, ".srt": read_srt, ".vtt": read_vtt, ".ass": read_ass, ".md": read_md,
           ".po": read_po, ".pot": read_po, ".properties": read_properties, ".strings": read_properties, ".csv": read_csv, ".txt": read_txt, ".docx": read_docx}

if sys.argv[1] == "make":
    try:
        make(sys.argv[2])
    except ImportError:
        pass
else:
    for base in sorted(os.listdir(sys.argv[1])):
        said = {"file": base, "texts": [], "outline": []}
        try:
            readers[os.path.splitext(base)[1]](os.path.join(sys.argv[1], base), said["texts"], said["outline"])
        except ImportError as e:
            said["missing"] = str(e)
        except Exception as e:
            said["fault"] = repr(e) + str(getattr(e, "stderr", ""))
        print(json.dumps(said, default=str))
