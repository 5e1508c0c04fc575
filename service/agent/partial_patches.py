"""Finds the patches in a JSON reply that is still being written."""

_PATCHES_KEY = "patches"
_LONGEST_KEY = 32
_IN_REPLY, _IN_PATCHES, _IN_PATCH = 1, 2, 3


class PatchScanner:
    """Cuts complete objects out of the reply's `patches` array, in time linear to the text.

    Judges nothing: a reply that is not JSON gives no objects, or some that cannot be read.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._key: list[str] = []
        self._in_patches = False
        self._object: list[str] = []

    def feed(self, text: str) -> list[str]:
        """Return the objects that this piece of text completes."""
        found = []
        for character in text:
            if self._object:
                self._object.append(character)
            if self._in_string:
                self._read_string(character)
            elif character == '"':
                self._in_string = True
                self._key.clear()
            elif character in "{[":
                self._open(character)
            elif character in "}]" and self._close():
                found.append("".join(self._object))
                self._object.clear()
        return found

    def _read_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
        elif self._depth == _IN_REPLY and len(self._key) < _LONGEST_KEY:
            self._key.append(character)

    def _open(self, bracket: str) -> None:
        if self._depth == _IN_REPLY and bracket == "[":
            self._in_patches = "".join(self._key) == _PATCHES_KEY
        self._depth += 1
        if self._in_patches and self._depth == _IN_PATCH and bracket == "{":
            self._object.append(bracket)

    def _close(self) -> bool:
        """Leave an array or object; whether a patch ends with it."""
        self._depth -= 1
        if self._depth <= _IN_REPLY:
            self._in_patches = False
        return self._depth == _IN_PATCHES and bool(self._object)
