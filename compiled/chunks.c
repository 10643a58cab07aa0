/* What happens to every chunk, compiled: two pure functions over bytes and strings.
 *
 * plain_texts reads what a model's server sends, chunk_frames writes what a reader gets. Both know the usual form alone
 * and give up on everything else, which then takes the way in Python; what they do is defined there
 * (legato/providers/openai_answer.py, legato/wire/native.py), and tests hold the two together. Nothing here keeps
 * state, and nothing is needed beyond the stable ABI of Python 3.11.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

static PyObject *wrong_arguments(const char *what) {
    PyErr_SetString(PyExc_TypeError, what);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

#define MOST_DEPTH 16

typedef struct {
    const unsigned char *at, *end;
    const unsigned char *text, *text_end; /* the content's characters, between its quotes */
    int escaped;                          /* whether a backslash is among them */
} Reader;

/* Where in a chunk a value stands: what is to be found there depends on it. */
enum Place { CHUNK, CHOICE, DELTA, ELSEWHERE };

static int value(Reader *r, int depth);
static int object(Reader *r, enum Place place, int depth);

static int take(Reader *r, char expected) {
    if (r->at >= r->end || *r->at != (unsigned char)expected) return 0;
    r->at++;
    return 1;
}

static void blanks(Reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t')) r->at++;
}

static int literal(Reader *r, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length)) return 0;
    r->at += length;
    return 1;
}

/* A string of printable ASCII without escapes: a name, or a value that nobody asks for. */
static int plain_string(Reader *r, const unsigned char **start, size_t *length) {
    if (!take(r, '"')) return 0;
    *start = r->at;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at < 0x20 || *r->at >= 0x7f || *r->at == '\\') return 0;
        r->at++;
    }
    *length = (size_t)(r->at - *start);
    return take(r, '"');
}

static int digits(Reader *r) {
    const unsigned char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > start;
}

/* A whole number of few digits; others are for the decoder to judge. */
static int number(Reader *r) {
    const unsigned char *start;
    take(r, '-');
    start = r->at;
    if (!digits(r) || (*start == '0' && r->at - start > 1) || r->at - start > 15) return 0;
    return r->at < r->end && *r->at != '.' && *r->at != 'e' && *r->at != 'E';
}

static int array(Reader *r, int depth) {
    if (!take(r, '[') || depth > MOST_DEPTH) return 0;
    blanks(r);
    if (take(r, ']')) return 1;
    do {
        blanks(r);
        if (!value(r, depth)) return 0;
        blanks(r);
    } while (take(r, ','));
    return take(r, ']');
}

static int value(Reader *r, int depth) {
    const unsigned char *start;
    size_t length;
    if (r->at >= r->end) return 0;
    switch (*r->at) {
        case '"': return plain_string(r, &start, &length);
        case '{': return object(r, ELSEWHERE, depth + 1);
        case '[': return array(r, depth + 1);
        case 't': return literal(r, "true");
        case 'f': return literal(r, "false");
        case 'n': return literal(r, "null");
        default: return number(r);
    }
}

/* The one string that is wanted; it is decoded later. */
static int content(Reader *r) {
    if (r->text || !take(r, '"')) return 0;
    r->text = r->at;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at < 0x20) return 0;
        if (*r->at == '\\') {
            r->escaped = 1;
            r->at++;
            if (r->at >= r->end) return 0;
        }
        r->at++;
    }
    r->text_end = r->at;
    return r->text_end > r->text && take(r, '"');
}

static int is(const unsigned char *name, size_t length, const char *word) {
    return strlen(word) == length && !memcmp(name, word, length);
}

/* Names under which something else than plain text may come: only null is plain. */
static int only_null(enum Place place, const unsigned char *name, size_t length) {
    switch (place) {
        case CHUNK: return is(name, length, "usage") || is(name, length, "error");
        case CHOICE: return is(name, length, "finish_reason") || is(name, length, "message");
        case DELTA:
            return is(name, length, "refusal") || is(name, length, "reasoning_content") ||
                   is(name, length, "reasoning") || is(name, length, "tool_calls") ||
                   is(name, length, "function_call");
        default: return 0;
    }
}

static int member(Reader *r, enum Place place, int depth, int *inner) {
    const unsigned char *name;
    size_t length;
    if (!plain_string(r, &name, &length)) return 0;
    blanks(r);
    if (!take(r, ':')) return 0;
    blanks(r);
    if (only_null(place, name, length)) return literal(r, "null");
    if (place == CHUNK && is(name, length, "choices")) {
        if ((*inner)++ || !take(r, '[')) return 0;
        blanks(r);
        if (!object(r, CHOICE, depth + 1)) return 0;
        blanks(r);
        return take(r, ']');
    }
    if (place == CHOICE && is(name, length, "delta")) return !(*inner)++ && object(r, DELTA, depth + 1);
    if (place == DELTA && is(name, length, "content")) return content(r);
    return value(r, depth);
}

static int object(Reader *r, enum Place place, int depth) {
    int inner = 0; /* what stands at the next place has been seen: twice is for the decoder to judge */
    if (depth > MOST_DEPTH || !take(r, '{')) return 0;
    blanks(r);
    if (take(r, '}')) return 1;
    do {
        blanks(r);
        if (!member(r, place, depth, &inner)) return 0;
        blanks(r);
    } while (take(r, ','));
    return take(r, '}');
}

static int hex4(const unsigned char *at, const unsigned char *end) {
    int code = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

static unsigned char *put_utf8(unsigned char *to, int code) {
    if (code < 0x80) {
        *to++ = (unsigned char)code;
    } else if (code < 0x800) {
        *to++ = (unsigned char)(0xc0 | code >> 6);
        *to++ = (unsigned char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (unsigned char)(0xe0 | code >> 12);
        *to++ = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (unsigned char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (unsigned char)(0xf0 | code >> 18);
        *to++ = (unsigned char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (unsigned char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* The content as a str; NULL without an error where it is no valid one. What is written is never longer than read. */
static PyObject *decoded(const Reader *r) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const unsigned char *at = r->text;
    unsigned char small[512], *buffer = small, *to;
    PyObject *text = NULL;
    size_t length = (size_t)(r->text_end - r->text);
    int whole = 1;
    if (!r->escaped) {
        text = PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)length, NULL);
    } else {
        if (length > sizeof small && !(buffer = PyMem_Malloc(length))) return PyErr_NoMemory();
        for (to = buffer; whole && at < r->text_end;) {
            const char *found;
            if (*at != '\\') {
                *to++ = *at++;
                continue;
            }
            at++;
            if (*at == 'u') {
                int code = hex4(at + 1, r->text_end), low = 0;
                at += 5;
                if (code >= 0xd800 && code < 0xdc00) {
                    low = r->text_end - at >= 6 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2, r->text_end) : -1;
                    code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
                    at += 6;
                } else if (code >= 0xdc00 && code < 0xe000) {
                    code = -1;
                }
                whole = code >= 0;
                if (whole) to = put_utf8(to, code);
            } else if (*at && (found = strchr(letters, *at))) {
                *to++ = (unsigned char)meant[found - letters];
                at++;
            } else {
                whole = 0;
            }
        }
        if (whole) text = PyUnicode_DecodeUTF8((const char *)buffer, to - buffer, NULL);
        if (buffer != small) PyMem_Free(buffer);
    }
    if (!text && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) PyErr_Clear();
    return text;
}

/* One `data: {...}` and its blank line: its text goes to `texts`. 1 done, 0 not plain, -1 an error is set. */
static int frame(Reader *r, PyObject *texts) {
    PyObject *text;
    int failed;
    r->text = NULL;
    r->escaped = 0;
    if (!literal(r, "data: ") || !object(r, CHUNK, 0) || !literal(r, "\n\n") || !r->text) return 0;
    text = decoded(r);
    if (!text) return PyErr_Occurred() ? -1 : 0;
    failed = PyList_Append(texts, text);
    Py_DECREF(text);
    return failed ? -1 : 1;
}

/* The size of the HTTP chunk that begins here, and a step to its data; 0 where it is not of the usual form. */
static size_t chunk_size(Reader *r) {
    size_t size = 0;
    for (int count = 0; count < 6 && r->at < r->end; count++, r->at++) {
        unsigned char c = *r->at;
        if (c >= '0' && c <= '9') size = size * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f') size = size * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') size = size * 16 + (c - 'A' + 10);
        else break;
    }
    return literal(r, "\r\n") ? size : 0;
}

PyDoc_STRVAR(plain_texts_doc,
    "plain_texts(data, texts) -> int\n\n"
    "Append to `texts` what the whole HTTP chunks at the beginning of `data` say, as long as each holds nothing but\n"
    "events of one plain text delta; return how many bytes they have. The rest is for the parser.");

static PyObject *plain_texts(PyObject *module, PyObject *const *arguments, Py_ssize_t given) {
    char *data;
    Py_ssize_t length;
    (void)module;
    if (given != 2 || !PyList_Check(arguments[1])) return wrong_arguments("plain_texts takes data and a list");
    PyObject *texts = arguments[1];
    if (PyBytes_AsStringAndSize(arguments[0], &data, &length)) return NULL;
    const unsigned char *start = (const unsigned char *)data, *end = start + length, *done = start;
    while (done < end) {
        Py_ssize_t before = PyList_Size(texts);
        Reader r = {done, end, NULL, NULL, 0};
        size_t size = chunk_size(&r);
        int plain = 1;
        if (!size || (size_t)(end - r.at) < size + 2 || memcmp(r.at + size, "\r\n", 2)) break;
        r.end = r.at + size;
        while (plain > 0 && r.at < r.end) plain = frame(&r, texts);
        if (plain < 0) return NULL;
        if (!plain) {
            if (PyList_SetSlice(texts, before, PyList_Size(texts), NULL)) return NULL;
            break;
        }
        done = r.end + 2;
    }
    return PyLong_FromSsize_t(done - start);
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

typedef struct {
    char *at;
} Writer;

static void put(Writer *w, const char *data, size_t length) {
    memcpy(w->at, data, length);
    w->at += length;
}

static void put_number(Writer *w, unsigned long long number) {
    char digits_[20];
    int count = 0;
    do digits_[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *w->at++ = digits_[--count];
}

#define MOST_PER_BYTE 6 /* a control character: six for one */

static void put_json(Writer *w, const unsigned char *at, const unsigned char *end) {
    static const char hex[] = "0123456789abcdef";
    const char *start;
    *w->at++ = '"';
    start = w->at;
    for (; at < end; at++) {
        unsigned char c = *at;
        if (c >= 0x20 && c != '"' && c != '\\' && c < 0x80) {
            *w->at++ = (char)c;
            /* "data: " must not stand in an event's data */
            if (c == ' ' && w->at - start >= 6 && !memcmp(w->at - 6, "data: ", 6)) {
                w->at--;
                put(w, "\\u0020", 6);
            }
        } else if (c >= 0x80) {
            /* U+0085, U+2028 and U+2029 end a line for some */
            if (c == 0xc2 && end - at > 1 && at[1] == 0x85) {
                put(w, "\\u0085", 6);
                at++;
            } else if (c == 0xe2 && end - at > 2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9)) {
                put(w, at[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
                at += 2;
            } else {
                *w->at++ = (char)c;
            }
        } else {
            *w->at++ = '\\';
            switch (c) {
                case '"': case '\\': *w->at++ = (char)c; break;
                case '\b': *w->at++ = 'b'; break;
                case '\t': *w->at++ = 't'; break;
                case '\n': *w->at++ = 'n'; break;
                case '\f': *w->at++ = 'f'; break;
                case '\r': *w->at++ = 'r'; break;
                default:
                    put(w, "u00", 3);
                    *w->at++ = hex[c >> 4];
                    *w->at++ = hex[c & 15];
            }
        }
    }
    *w->at++ = '"';
}

#define DATA "\ndata: {\"content\":"
#define INDEX ",\"index\":"

PyDoc_STRVAR(chunk_frames_doc,
    "chunk_frames(head, seq, index, end, items) -> bytes | None\n\n"
    "Return the frames of text deltas that begin at `seq`, `index` texts before them; None where one is no str.");

static PyObject *chunk_frames(PyObject *module, PyObject *const *arguments, Py_ssize_t given) {
    PyObject *frames;
    char *head_data, *end_data;
    Py_ssize_t head_length, end_length;
    size_t most = 0;
    (void)module;
    if (given != 5 || !PyList_Check(arguments[4]))
        return wrong_arguments("chunk_frames takes head, seq, index, end and a list");
    PyObject *items = arguments[4];
    if (PyBytes_AsStringAndSize(arguments[0], &head_data, &head_length)) return NULL;
    unsigned long long seq = PyLong_AsUnsignedLongLong(arguments[1]), index = PyLong_AsUnsignedLongLong(arguments[2]);
    if (PyErr_Occurred()) return NULL;
    if (PyBytes_AsStringAndSize(arguments[3], &end_data, &end_length)) return NULL;
    Py_ssize_t count = PyList_Size(items);
    size_t fixed = (size_t)head_length + sizeof DATA + sizeof INDEX + (size_t)end_length + 40;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(items, i);
        Py_ssize_t length;
        if (!PyUnicode_CheckExact(item)) Py_RETURN_NONE;
        if (!PyUnicode_AsUTF8AndSize(item, &length)) return NULL;
        most += fixed + (size_t)length * MOST_PER_BYTE + 2;
    }
    char small[4096], *buffer = small;
    if (most > sizeof small && !(buffer = PyMem_Malloc(most))) return PyErr_NoMemory();
    Writer w = {buffer};
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t length;
        const unsigned char *text = (const unsigned char *)PyUnicode_AsUTF8AndSize(PyList_GetItem(items, i), &length);
        put(&w, head_data, (size_t)head_length);
        put_number(&w, seq + (unsigned long long)i);
        put(&w, DATA, sizeof DATA - 1);
        put_json(&w, text, text + length);
        put(&w, INDEX, sizeof INDEX - 1);
        put_number(&w, index + (unsigned long long)i + 1);
        put(&w, end_data, (size_t)end_length);
    }
    frames = PyBytes_FromStringAndSize(buffer, w.at - buffer);
    if (buffer != small) PyMem_Free(buffer);
    return frames;
}

/* -------------------------------------------------------------------------------------------------------------- */

#define QUICK(function) (PyCFunction)(void (*)(void))function

static PyMethodDef functions[] = {
    {"plain_texts", QUICK(plain_texts), METH_FASTCALL, plain_texts_doc},
    {"chunk_frames", QUICK(chunk_frames), METH_FASTCALL, chunk_frames_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chunks", NULL, 0, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__chunks(void) { return PyModuleDef_Init(&module); }
