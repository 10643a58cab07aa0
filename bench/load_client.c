/* A load client that verifies every token of every stream and times each chunk.
 *
 * One thread, epoll, loopback only. Opens STREAMS streams spread over RAMP
 * seconds; whenever one ends another begins (a new conversation id, the same
 * connection) until the WINDOW is over; then it lets the rest end. Tokens come
 * from mock_upstream and must be dense, in order, none lost, none twice, and
 * exactly one terminal must follow the last. Latencies are taken within the
 * window only (with --once or --total: always). All times are microseconds of
 * CLOCK_MONOTONIC, shared with the upstream. Prints one JSON object; exits 0
 * when every stream was whole, 1 when one was not, 2 on wrong usage.
 *
 * With --live FILE eight u64 counters are kept in that file, memory-mapped:
 * phase (0 ramp, 1 window, 2 drain, 3 done), tokens, open, started, whole,
 * first tokens, failed, frames.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PHASE_RAMP, PHASE_WINDOW, PHASE_DRAIN, PHASE_DONE };
enum { READ_HEAD, READ_SIZE, READ_DATA, READ_DATA_END, READ_TRAILER, READ_UNTIL_CLOSE };

typedef struct {
    uint64_t phase, tokens, open, started, whole, first, failed, frames;
} live_counters;

typedef struct conn {
    int fd, active, connected, dead, read_state, status, closing, in_window;
    uint64_t post_us;
    long number;     /* which stream this is, counted over the whole run */
    long next_token; /* the token that must come next */
    long next_index; /* native: the index that must come next, from 1 */
    long last_seq;   /* native: seq of the last cursor, -1 before the first */
    long text_bytes; /* content bytes so far */
    int terminals, finishes;
    size_t chunk_left;
    char *body;      /* payload that does not end a frame yet; during READ_HEAD the head */
    size_t body_len, body_cap, scanned;
    char size_text[24];
    int size_len, conversation_len, carry_len;
    char conversation[80], carry[64];
} conn;

/* Log-linear histogram: 64 steps an octave, error below 1.6 %. */
#define STEPS 64
#define OCTAVES 32
typedef struct {
    uint64_t count, max, min, at[OCTAVES * STEPS];
    double sum;
} histogram;

static int port, native = 1, once, reconnect, streams = 100;
static long tokens = 200, total;
static double ramp_s = 1, settle_s = 0, window_s = 5, drain_s = 30;
static const char *path, *tag = "bench", *fixed_conversation, *message = "hello", *live_file,
                  *token = "sk-bench";
static int epfd;
static uint64_t begun_us, last_progress_us;
static live_counters own_live, *live = &own_live;
static histogram chunk_us, first_added_us, first_total_us, start_us;
static long number_next, window_tokens, window_frames;
static char first_error[512];
static struct {
    uint64_t lost, repeated, malformed, no_terminal, second_terminal, after_terminal, short_reply,
        index, cursor, conversation, length, http, stream_error, connect, cut, unfinished;
} bad;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* ---- histograms ---- */

static size_t bucket(uint64_t v) {
    if (v < STEPS) return v;
    int octave = 63 - __builtin_clzll(v) - 6; /* v >> octave lies in [64, 128) */
    size_t i = (size_t)(octave + 1) * STEPS + ((v >> octave) - STEPS);
    return i < OCTAVES * STEPS ? i : OCTAVES * STEPS - 1;
}

static uint64_t bucket_top(size_t i) {
    if (i < STEPS) return i;
    size_t octave = i / STEPS - 1;
    return (((i % STEPS) + STEPS + 1) << octave) - 1;
}

static void record(histogram *h, uint64_t v) {
    if (!h->count || v < h->min) h->min = v;
    if (v > h->max) h->max = v;
    h->count++, h->sum += (double)v, h->at[bucket(v)]++;
}

static uint64_t quantile(const histogram *h, double q) {
    uint64_t want = (uint64_t)ceil(q * (double)h->count), seen = 0;
    for (size_t i = 0; i < OCTAVES * STEPS; i++)
        if ((seen += h->at[i]) >= want && seen)
            return bucket_top(i) < h->max ? bucket_top(i) : h->max;
    return h->max;
}

static void print_histogram(const char *name, const histogram *h, int buckets) {
    printf("\"%s\":{\"count\":%llu", name, (unsigned long long)h->count);
    if (h->count)
        printf(",\"mean\":%.1f,\"min\":%llu,\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"p999\":%llu,"
               "\"max\":%llu",
               h->sum / (double)h->count, (unsigned long long)h->min,
               (unsigned long long)quantile(h, .5), (unsigned long long)quantile(h, .9),
               (unsigned long long)quantile(h, .99), (unsigned long long)quantile(h, .999),
               (unsigned long long)h->max);
    if (buckets) {
        printf(",\"buckets\":[");
        int some = 0;
        for (size_t i = 0; i < OCTAVES * STEPS; i++)
            if (h->at[i])
                printf("%s[%llu,%llu]", some++ ? "," : "", (unsigned long long)bucket_top(i),
                       (unsigned long long)h->at[i]);
        printf("]");
    }
    printf("}");
}

/* ---- streams ---- */

static int recording(const conn *c) {
    return once || total || (live->phase == PHASE_WINDOW && c->in_window >= 0);
}

static void note_error(const char *what, const char *data, size_t len) {
    if (first_error[0]) return;
    size_t n = (size_t)snprintf(first_error, sizeof first_error, "%s: ", what);
    for (size_t i = 0; i < len && n < sizeof first_error - 1; i++) {
        char ch = data[i];
        first_error[n++] = ch < ' ' || ch == '"' || ch == '\\' || ch > '~' ? ' ' : ch;
    }
    first_error[n] = 0;
}

static void hang_up(conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1, c->connected = 0;
}

/* The stream is broken: counted, its connection closed, its slot not used again. */
static void fail(conn *c, uint64_t *counter, const char *what, const char *data, size_t len) {
    (*counter)++;
    note_error(what, data, len);
    if (c->active) live->open--, live->failed++;
    c->active = 0, c->dead = 1;
    hang_up(c);
}

static void connect_up(conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return fail(c, &bad.connect, "socket", strerror(errno), strlen(strerror(errno)));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) && errno != EINPROGRESS)
        return fail(c, &bad.connect, "connect", strerror(errno), strlen(strerror(errno)));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &e);
}

static void post(conn *c) {
    char body[8192], request[11000];
    int n;
    if (native)
        n = snprintf(body, sizeof body,
                     "{\"message\":\"%s\",\"sessionId\":\"s-%s-%ld\",\"conversationId\":\"%s\"}",
                     message, tag, c->number, c->conversation);
    else
        n = snprintf(body, sizeof body,
                     "{\"model\":\"mock-model\",\"stream\":true,\"stream_options\":"
                     "{\"include_usage\":true},\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                     message);
    n = snprintf(request, sizeof request,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                 "Accept: text/event-stream\r\nAuthorization: Bearer %s\r\n"
                 "Content-Length: %d\r\n\r\n%s",
                 path, port, token, n, body);
    c->post_us = now_us();
    if (send(c->fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        fail(c, &bad.connect, "send", strerror(errno), strlen(strerror(errno)));
}

static void begin(conn *c) {
    char *conversation = c->conversation;
    c->number = number_next++;
    c->active = 1, c->in_window = live->phase == PHASE_WINDOW;
    c->next_token = 0, c->next_index = 1, c->last_seq = -1, c->text_bytes = 0;
    c->terminals = c->finishes = c->carry_len = 0;
    c->read_state = READ_HEAD, c->body_len = c->scanned = 0, c->closing = 0;
    const char *mark = fixed_conversation ? strchr(fixed_conversation, '%') : NULL;
    const size_t size = sizeof c->conversation;
    if (mark)
        c->conversation_len = snprintf(conversation, size, "%.*s%ld%s",
                                       (int)(mark - fixed_conversation), fixed_conversation,
                                       c->number, mark + 1);
    else if (fixed_conversation)
        c->conversation_len = snprintf(conversation, size, "%s", fixed_conversation);
    else c->conversation_len = snprintf(conversation, size, "c-%s-%ld", tag, c->number);
    live->open++, live->started++;
    c->post_us = now_us(); /* a new connection's handshake belongs to the first chunk's time */
    if (reconnect) hang_up(c);
    if (c->fd < 0) connect_up(c);
    else post(c);
}

static int may_begin(void) {
    if (total && number_next >= total) return 0;
    return !once && live->phase < PHASE_DRAIN;
}

static void end_stream(conn *c) {
    if (c->terminals != 1 || (!native && c->finishes != 1))
        return fail(c, &bad.no_terminal, "ended without one terminal", c->conversation,
                    (size_t)c->conversation_len);
    c->active = 0;
    live->open--, live->whole++;
    if (c->closing) hang_up(c);
    if (c->body_cap > 4096) free(c->body), c->body = NULL, c->body_cap = 0;
    if (may_begin()) begin(c);
    else hang_up(c);
}

/* ---- what a frame says ---- */

/* The first character of key's string value within data, or NULL. */
static const char *string_of(const char *data, size_t len, const char *key, size_t *value_len) {
    const char *end = data + len, *at = memmem(data, len, key, strlen(key));
    if (!at) return NULL;
    for (at += strlen(key); at < end && (*at == ':' || *at == ' '); at++) {}
    if (at >= end || *at++ != '"') return NULL;
    const char *close = memchr(at, '"', (size_t)(end - at));
    if (!close) return NULL;
    *value_len = (size_t)(close - at);
    return at;
}

static long number_of(const char *data, size_t len, const char *key) {
    const char *end = data + len, *at = memmem(data, len, key, strlen(key));
    if (!at) return -1;
    for (at += strlen(key); at < end && (*at == ':' || *at == ' '); at++) {}
    return at < end && *at >= '0' && *at <= '9' ? strtol(at, NULL, 10) : -1;
}

static int read_digits(const char **at, const char *end, uint64_t *value) {
    const char *from = *at;
    for (*value = 0; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        *value = *value * 10 + (uint64_t)(**at - '0');
    return *at > from;
}

/* One token "n:sent " or "0:sent:asked "; 0 when the stream failed. */
static int on_token(conn *c, const char *at, const char *end, uint64_t got) {
    uint64_t n, sent, asked = 0;
    const char *from = at;
    if (!read_digits(&at, end, &n) || at == end || *at++ != ':' || !read_digits(&at, end, &sent) ||
        (n == 0 && (at == end || *at++ != ':' || !read_digits(&at, end, &asked))) || at != end)
        return fail(c, &bad.malformed, "not a token", from, (size_t)(end - from)), 0;
    if ((long)n > c->next_token) return fail(c, &bad.lost, "lost before", from, 6), 0;
    if ((long)n < c->next_token) return fail(c, &bad.repeated, "repeated", from, 6), 0;
    c->next_token++;
    live->tokens++;
    if (live->phase == PHASE_WINDOW) window_tokens++;
    uint64_t added = got > sent ? got - sent : 0;
    if (recording(c)) record(&chunk_us, added);
    if (n == 0) {
        live->first++;
        if (once || total || c->in_window) {
            uint64_t way_in = asked > c->post_us ? asked - c->post_us : 0;
            record(&start_us, way_in);
            record(&first_added_us, way_in + added);
            record(&first_total_us, got - c->post_us);
        }
    }
    return 1;
}

/* Content may hold part of a token or several: tokens end with a space. */
static int on_content(conn *c, const char *text, size_t len, uint64_t got) {
    const char *end = text + len;
    c->text_bytes += (long)len;
    while (text < end) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        const char *stop = space ? space : end;
        size_t part = (size_t)(stop - text);
        if (!space || c->carry_len) {
            if (c->carry_len + part > sizeof c->carry)
                return fail(c, &bad.malformed, "not a token", text, part), 0;
            memcpy(c->carry + c->carry_len, text, part);
            c->carry_len += (int)part;
            if (!space) return 1;
            int n = c->carry_len;
            c->carry_len = 0;
            if (!on_token(c, c->carry, c->carry + n, got)) return 0;
        } else if (!on_token(c, text, stop, got)) return 0;
        text = space + 1;
    }
    return 1;
}

static int on_terminal(conn *c) {
    if (c->terminals++) return fail(c, &bad.second_terminal, "second terminal", "", 0), 0;
    if (c->next_token != tokens || c->carry_len)
        return fail(c, &bad.short_reply, "terminal before the last token", c->conversation,
                    (size_t)c->conversation_len), 0;
    return 1;
}

static int on_native(conn *c, const char *event, size_t event_len, const char *id, size_t id_len,
                     const char *data, size_t len, uint64_t got) {
    if (id) {
        const char *dot = memrchr(id, '.', id_len);
        long seq = dot ? strtol(dot + 1, NULL, 10) : -1;
        if (seq <= c->last_seq) return fail(c, &bad.cursor, "cursor went back", id, id_len), 0;
        c->last_seq = seq;
    }
    size_t n;
    const char *text;
    if (event_len == 5 && !memcmp(event, "chunk", 5)) {
        if (c->terminals) return fail(c, &bad.after_terminal, "after the terminal", data, len), 0;
        long index = number_of(data, len, "\"index\"");
        if (index != c->next_index++) return fail(c, &bad.index, "index", data, len), 0;
        text = string_of(data, len, "\"conversationId\"", &n);
        if (!text || n != (size_t)c->conversation_len || memcmp(text, c->conversation, n))
            return fail(c, &bad.conversation, "another conversation", data, len), 0;
        text = string_of(data, len, "\"content\"", &n);
        if (!text) return fail(c, &bad.malformed, "no content", data, len), 0;
        return on_content(c, text, n, got);
    }
    if (event_len == 8 && !memcmp(event, "complete", 8)) {
        long length = number_of(data, len, "\"responseLength\"");
        if (length >= 0 && length != c->text_bytes)
            return fail(c, &bad.length, "responseLength", data, len), 0;
        return on_terminal(c);
    }
    if (event_len == 5 && !memcmp(event, "error", 5))
        return fail(c, &bad.stream_error, "event: error", data, len), 0;
    return 1; /* further events, which clients ignore */
}

static int on_openai(conn *c, const char *data, size_t len, uint64_t got) {
    size_t n;
    if (len == 6 && !memcmp(data, "[DONE]", 6)) return on_terminal(c);
    if (c->terminals) return fail(c, &bad.after_terminal, "after the terminal", data, len), 0;
    if (memmem(data, len, "\"error\"", 7))
        return fail(c, &bad.stream_error, "error", data, len), 0;
    if (string_of(data, len, "\"finish_reason\"", &n)) c->finishes++;
    const char *text = string_of(data, len, "\"content\"", &n);
    return text ? on_content(c, text, n, got) : 1;
}

static int on_frame(conn *c, const char *frame, size_t len, uint64_t got) {
    const char *event = "", *id = NULL, *data = NULL, *end = frame + len;
    size_t event_len = 0, id_len = 0, data_len = 0;
    for (const char *line = frame; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        size_t n = (size_t)(stop - line);
        if (n > 6 && !memcmp(line, "data: ", 6)) data = line + 6, data_len = n - 6;
        else if (n > 7 && !memcmp(line, "event: ", 7)) event = line + 7, event_len = n - 7;
        else if (n > 4 && !memcmp(line, "id: ", 4)) id = line + 4, id_len = n - 4;
        line = stop + 1;
    }
    if (!data) return 1; /* a comment */
    live->frames++;
    if (live->phase == PHASE_WINDOW) window_frames++;
    return native ? on_native(c, event, event_len, id, id_len, data, data_len, got)
                  : on_openai(c, data, data_len, got);
}

/* ---- HTTP ---- */

static void keep(conn *c, const char *data, size_t len) {
    if (c->body_len + len > c->body_cap) {
        c->body_cap = c->body_len + len < 1024 ? 1024 : (c->body_len + len) * 2;
        c->body = realloc(c->body, c->body_cap);
    }
    memcpy(c->body + c->body_len, data, len);
    c->body_len += len;
}

static int on_payload(conn *c, const char *data, size_t len, uint64_t got) {
    keep(c, data, len);
    size_t from = 0;
    while (c->body_len > from) {
        size_t search = c->scanned > from ? c->scanned : from;
        const char *end = memmem(c->body + search, c->body_len - search, "\n\n", 2);
        if (!end) break;
        size_t frame = (size_t)(end - c->body) - from;
        if (!on_frame(c, c->body + from, frame, got)) return 0;
        from += frame + 2;
        c->scanned = from;
    }
    if (from) memmove(c->body, c->body + from, c->body_len - from);
    c->body_len -= from;
    c->scanned = c->body_len ? c->body_len - 1 : 0;
    return 1;
}

/* Read the head when it is whole; returns bytes used, 0 when more is needed. */
static size_t on_head(conn *c, const char *data, size_t len) {
    size_t before = c->body_len;
    keep(c, data, len);
    char *end = memmem(c->body, c->body_len, "\r\n\r\n", 4);
    if (!end) return c->body_len > 65536 ? fail(c, &bad.http, "head too long", "", 0), 0 : 0;
    size_t head = (size_t)(end - c->body) + 4;
    c->status = c->body_len > 12 ? atoi(c->body + 9) : 0;
    int chunked = 0;
    for (char *line = c->body; line < end;
         line = (char *)memmem(line, (size_t)(end + 4 - line), "\r\n", 2) + 2) {
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) chunked = 1;
        if (!strncasecmp(line, "connection: close", 17)) c->closing = 1;
    }
    if (c->status != 200)
        return fail(c, &bad.http, "status", c->body, c->body_len), 0;
    c->read_state = chunked ? READ_SIZE : READ_UNTIL_CLOSE;
    c->size_len = 0, c->body_len = c->scanned = 0;
    return head - before;
}

static void on_bytes(conn *c, const char *data, size_t len, uint64_t got) {
    const char *end = data + len;
    while (data < end && c->active) {
        size_t n;
        const char *lf;
        switch (c->read_state) {
        case READ_HEAD:
            if (!(n = on_head(c, data, (size_t)(end - data)))) return;
            data += n;
            break;
        case READ_SIZE:
            if (*data == '\n') {
                c->size_text[c->size_len] = 0;
                c->chunk_left = strtoul(c->size_text, NULL, 16);
                c->size_len = 0;
                c->read_state = c->chunk_left ? READ_DATA : READ_TRAILER;
            } else if (c->size_len < (int)sizeof c->size_text - 1)
                c->size_text[c->size_len++] = *data;
            data++;
            break;
        case READ_DATA:
            n = (size_t)(end - data) < c->chunk_left ? (size_t)(end - data) : c->chunk_left;
            if (!on_payload(c, data, n, got)) return;
            data += n;
            if (!(c->chunk_left -= n)) c->read_state = READ_DATA_END;
            break;
        case READ_DATA_END:
            if (*data++ == '\n') c->read_state = READ_SIZE;
            break;
        case READ_TRAILER: /* no trailers are expected: the first empty line ends the body */
            if (!(lf = memchr(data, '\n', (size_t)(end - data)))) return;
            data = lf + 1;
            end_stream(c);
            if (data < end && c->active) fail(c, &bad.after_terminal, "bytes after the end", "", 0);
            return;
        default: /* READ_UNTIL_CLOSE */
            if (!on_payload(c, data, (size_t)(end - data), got)) return;
            data = end;
        }
    }
}

static void on_event(conn *c, uint32_t events) {
    static char buf[1 << 18];
    if (c->fd < 0) return;
    if (!c->connected) {
        int why = 0;
        socklen_t size = sizeof why;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &size);
        if (why) return fail(c, &bad.connect, "connect", strerror(why), strlen(strerror(why)));
        if (!(events & EPOLLOUT)) return;
        c->connected = 1;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
        uint64_t asked = c->post_us;
        post(c);
        c->post_us = asked;
        return;
    }
    ssize_t n = recv(c->fd, buf, sizeof buf, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) {
        last_progress_us = now_us();
        return on_bytes(c, buf, (size_t)n, last_progress_us);
    }
    if (!c->active) return hang_up(c);
    if (n == 0 && c->read_state == READ_UNTIL_CLOSE) {
        hang_up(c);
        return end_stream(c);
    }
    fail(c, &bad.cut, "connection cut", n < 0 ? strerror(errno) : "end of file", 11);
}

static volatile sig_atomic_t stop_asked;
static void on_signal(int sig) {
    (void)sig;
    stop_asked = 1;
}

static void print_result(uint64_t wrong) {
    printf("{\"streams\":%d,\"started\":%llu,\"whole\":%llu,\"failed\":%llu,\"tokens\":%llu,"
           "\"frames\":%llu,\"window_tokens\":%ld,\"window_frames\":%ld,\"elapsed_s\":%.3f,",
           streams, (unsigned long long)live->started, (unsigned long long)live->whole,
           (unsigned long long)live->failed, (unsigned long long)live->tokens,
           (unsigned long long)live->frames, window_tokens, window_frames,
           (double)(now_us() - begun_us) / 1e6);
    print_histogram("chunk_added_us", &chunk_us, 1), printf(",");
    print_histogram("first_added_us", &first_added_us, 1), printf(",");
    print_histogram("first_total_us", &first_total_us, 0), printf(",");
    print_histogram("start_us", &start_us, 0);
    printf(",\"violations\":%llu,\"violation_kinds\":{", (unsigned long long)wrong);
    const struct { const char *name; uint64_t n; } kinds[] = {
        {"lost", bad.lost}, {"repeated", bad.repeated}, {"malformed", bad.malformed},
        {"no_terminal", bad.no_terminal}, {"second_terminal", bad.second_terminal},
        {"after_terminal", bad.after_terminal}, {"short_reply", bad.short_reply},
        {"index", bad.index}, {"cursor", bad.cursor}, {"conversation", bad.conversation},
        {"length", bad.length}, {"http", bad.http}, {"stream_error", bad.stream_error},
        {"connect", bad.connect}, {"cut", bad.cut}, {"unfinished", bad.unfinished}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        printf("%s\"%s\":%llu", i ? "," : "", kinds[i].name, (unsigned long long)kinds[i].n);
    printf("},\"first_error\":\"%s\"}\n", first_error);
}

static const char *USAGE =
    "usage: load_client --port N [--protocol native|openai] [--path P] [--streams 100]\n"
    "                   [--tokens 200] [--ramp-s 1] [--settle-s 0] [--window-s 5] [--drain-s 30]\n"
    "                   [--once | --total N] [--conversation ID] [--message TEXT] [--tag TEXT]\n"
    "                   [--reconnect] [--live FILE]\n"
    "  --tokens        tokens that every reply must have\n"
    "  --settle-s      seconds after the ramp before the window opens\n"
    "  --drain-s       seconds that streams may take to end after the window\n"
    "  --once          one stream a slot: opened over the ramp, held until each ends\n"
    "  --total         end after this many streams\n"
    "  --conversation  one conversation id for all streams, a % in it standing for the stream's\n"
    "                  number from 0 (default: a new one each)\n"
    "  --reconnect     a new connection for every stream\n"
    "  --token TOKEN   bearer token of every post (default sk-bench)\n";

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'},     {"protocol", 1, 0, 'P'}, {"path", 1, 0, 'u'},
        {"streams", 1, 0, 's'},  {"tokens", 1, 0, 'n'},   {"ramp-s", 1, 0, 'r'},
        {"settle-s", 1, 0, 'S'}, {"window-s", 1, 0, 'w'}, {"drain-s", 1, 0, 'd'},
        {"once", 0, 0, 'o'},     {"total", 1, 0, 't'},    {"conversation", 1, 0, 'c'},
        {"message", 1, 0, 'm'},  {"tag", 1, 0, 'g'},      {"reconnect", 0, 0, 'x'},
        {"live", 1, 0, 'l'},     {"token", 1, 0, 'k'},    {"help", 0, 0, 'h'},
        {0, 0, 0, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) switch (opt) {
        case 'p': port = atoi(optarg); break;
        case 'P': native = strcmp(optarg, "openai") != 0; break;
        case 'u': path = optarg; break;
        case 's': streams = atoi(optarg); break;
        case 'n': tokens = atol(optarg); break;
        case 'r': ramp_s = atof(optarg); break;
        case 'S': settle_s = atof(optarg); break;
        case 'w': window_s = atof(optarg); break;
        case 'd': drain_s = atof(optarg); break;
        case 'o': once = 1; break;
        case 't': total = atol(optarg); break;
        case 'c': fixed_conversation = optarg; break;
        case 'm': message = optarg; break;
        case 'g': tag = optarg; break;
        case 'x': reconnect = 1; break;
        case 'l': live_file = optarg; break;
        case 'k': token = optarg; break;
        default: fputs(USAGE, opt == 'h' ? stdout : stderr); return opt == 'h' ? 0 : 2;
        }
    if (port <= 0 || streams < 1 || tokens < 1) return fputs(USAGE, stderr), 2;
    if (!path) path = native ? "/chat/stream" : "/v1/chat/completions";
    if (strlen(message) > 4000 || strlen(token) > 2000 || strlen(tag) > 32 ||
        (fixed_conversation && strlen(fixed_conversation) > 40)) return fputs(USAGE, stderr), 2;
    if (live_file) {
        int fd = open(live_file, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || ftruncate(fd, sizeof *live)) return perror(live_file), 2;
        live = mmap(NULL, sizeof *live, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (live == MAP_FAILED) return perror("mmap"), 2;
        close(fd);
    }
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGTERM, &act, NULL), sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);

    conn *conns = calloc((size_t)streams, sizeof *conns);
    for (int i = 0; i < streams; i++) conns[i].fd = -1;
    struct epoll_event ready[512];
    epfd = epoll_create1(EPOLL_CLOEXEC);
    begun_us = last_progress_us = now_us();
    const uint64_t ramp = (uint64_t)(ramp_s * 1e6), open_at = ramp + (uint64_t)(settle_s * 1e6),
                   close_at = open_at + (uint64_t)(window_s * 1e6),
                   dead_at = close_at + (uint64_t)(drain_s * 1e6);
    int opened = 0;
    while (!stop_asked) {
        uint64_t passed = now_us() - begun_us;
        while (opened < streams && (!total || number_next < total) && live->phase < PHASE_DRAIN &&
               passed >= ramp * (uint64_t)opened / (uint64_t)streams)
            begin(&conns[opened++]);
        live->phase = passed < open_at ? PHASE_RAMP : passed < close_at ? PHASE_WINDOW : PHASE_DRAIN;
        int all_begun = opened == streams || (total && number_next >= total) ||
                        live->phase == PHASE_DRAIN;
        if (passed >= dead_at || (all_begun && !live->open && (once || total || !may_begin()))) break;
        if (all_begun && !live->open) break; /* every slot has failed */
        int n = epoll_wait(epfd, ready, 512, opened < streams ? 1 : 5);
        for (int i = 0; i < n; i++) on_event(ready[i].data.ptr, ready[i].events);
    }
    bad.unfinished = live->open;
    if (live->open) note_error("unfinished", stop_asked ? "stopped" : "still open at the end", 21);
    uint64_t wrong = bad.lost + bad.repeated + bad.malformed + bad.no_terminal +
                     bad.second_terminal + bad.after_terminal + bad.short_reply + bad.index +
                     bad.cursor + bad.conversation + bad.length + bad.http + bad.stream_error +
                     bad.connect + bad.cut + bad.unfinished;
    live->phase = PHASE_DONE;
    print_result(wrong);
    return wrong ? 1 : 0;
}
