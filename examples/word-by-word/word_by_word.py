"""A provider that replaces each word by that of a list, and knows no grammar."""

from dragoman_plugin import ConfigError, Error, Result, serve

import re


class WordByWord:
    """Replaces each word by that of a list. It is an example: what comes out is no translation to rely on."""

    keys = {
        "words": {
            "type": "string",
            "default": "words.tsv",
            "description": "File of words: source language, target language, word and translation, with a tab between them.",
        },
        "unknown": {
            "type": "string",
            "enum": ["mark", "keep", "fail"],
            "default": "mark",
            "description": "A word that is not in the list: mark puts it in brackets, keep leaves it as it is, fail refuses the text.",
        },
    }

    def __init__(self, config):
        self.unknown = config["unknown"]
        try:
            self.words = read(config["words"])
        except (OSError, ValueError) as mistake:
            raise ConfigError({"words": str(mistake)})

    def languages(self):
        targets = {}
        for source, target in self.words:
            targets.setdefault(source, []).append(target)
        return targets

    def translate(self, request):
        known = self.words.get((base(request.source), base(request.target)))
        if known is None:
            raise Error("unsupported_language", "the list has no words for this pair of languages", field="target" if request.source else "source")
        text = ""
        for piece in re.findall(r"\w+|\W+", request.text):
            piece = self.word(piece, known)
            text += piece
            yield piece
        return Result(text, flags=["word_by_word"])

    def word(self, piece, known):
        if not piece[0].isalpha():
            return piece
        found = known.get(piece.lower())
        if found:
            return found[0].upper() + found[1:] if piece[0].isupper() else found
        if self.unknown == "fail":
            raise Error("provider_refused", "the text has a word that is not in the list")
        return f"[{piece}]" if self.unknown == "mark" else piece


def read(name):
    """Returns the words of a file by pair of languages."""
    words = {}
    with open(name, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            columns = line.rstrip("\n").split("\t")
            if len(columns) != 4 or not all(columns):
                raise ValueError(f"{name}:{number}: want 4 columns with a tab between them, got {len(columns)}")
            source, target, word, translation = columns
            words.setdefault((source, target), {})[word.lower()] = translation
    return words


def base(language):
    """Returns the language without region or script: pt of pt-BR."""
    return language.partition("-")[0]


if __name__ == "__main__":
    serve(WordByWord)
