/* A cheap OpenAI-compatible upstream that numbers and stamps every token.
 *
 * One thread, epoll, loopback only. POST /v1/chat/completions answers, when the
 * body asks for a stream, chunked SSE: a role-only chunk at once, then TOKENS
 * chunks at RATE per second, then finish_reason "stop", usage (when asked for)
 * and [DONE]. Token i's content is "iiiiii:SSSSSSSSSSSSSSS " where S is
 * CLOCK_MONOTONIC in microseconds just before the write; token 0 carries a
 * third field, the time at which the request was complete, so that a client on
 * the same machine can subtract the upstream's own share of a first chunk.
 * With --silent a stream says token 0 and then nothing until SIGUSR1 ends it.
 * GET /stats answers counters as JSON. Without "stream": true the answer is one
 * plain completion.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

#define TICK_US 250 /* the timer wheel's step: fine enough to spread writes over time */
#define SLOTS 16384
#define REQUEST_LIMIT (16u << 20)

typedef struct conn {
    int fd;
    int streaming, silent, usage, handshaken, want_write;
    SSL *ssl;
    char *in, *out;
    size_t in_len, in_cap, out_len, out_off, out_cap;
    uint64_t id, request_us, due_us;
    long next_token;
    struct conn *prev, *next; /* within a slot of the wheel */
    int slot;                 /* -1 when no timer runs */
    struct conn *all_prev, *all_next;
} conn;

static long tokens = 200;
static double rate = 20.0, jitter = 1.0, first_ms = 0.0, release_s = 5.0;
static int silent_mode;
static conn *wheel[SLOTS], *all;
static uint64_t wheel_tick, timers;
static int epfd;
static volatile sig_atomic_t stop_asked, release_asked;
static struct {
    uint64_t accepted, handshakes, requests, streams, plain, finished, aborted, tokens, open;
    uint64_t first_request_us, last_request_us, request_bytes;
} stats;
#ifdef WITH_TLS
static SSL_CTX *tls;
#endif

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t random_bits(void) {
    static uint64_t s = 0x9e3779b97f4a7c15u; /* fixed seed: phases repeat from run to run */
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    return s;
}

static double uniform(void) { return (double)(random_bits() >> 11) / 9007199254740992.0; }

static void digits(char *at, int width, uint64_t value) {
    for (int i = width - 1; i >= 0; i--, value /= 10) at[i] = (char)('0' + value % 10);
}

/* ---- timers ---- */

static void timer_set(conn *c, uint64_t due_us) {
    uint64_t at = due_us / TICK_US;
    if (at <= wheel_tick) at = wheel_tick + 1;
    c->due_us = due_us;
    c->slot = (int)(at % SLOTS);
    c->prev = NULL;
    c->next = wheel[c->slot];
    if (c->next) c->next->prev = c;
    wheel[c->slot] = c;
    timers++;
}

static void timer_clear(conn *c) {
    if (c->slot < 0) return;
    if (c->prev) c->prev->next = c->next;
    else wheel[c->slot] = c->next;
    if (c->next) c->next->prev = c->prev;
    c->slot = -1;
    timers--;
}

/* ---- connections and bytes ---- */

static void watch(conn *c, int want_write) {
    if (c->want_write == want_write) return;
    c->want_write = want_write;
    struct epoll_event e = {.events = EPOLLIN | (want_write ? (uint32_t)EPOLLOUT : 0u),
                            .data.ptr = c};
    epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(conn *c) {
    if (c->streaming) stats.aborted++, stats.open--;
    timer_clear(c);
#ifdef WITH_TLS
    if (c->ssl) SSL_free(c->ssl);
#endif
    close(c->fd);
    if (c->all_prev) c->all_prev->all_next = c->all_next;
    else all = c->all_next;
    if (c->all_next) c->all_next->all_prev = c->all_prev;
    free(c->in), free(c->out), free(c);
}

/* Bytes moved; 0 when the socket would block; -1 when the connection is gone. */
static ssize_t put(conn *c, const char *data, size_t len) {
#ifdef WITH_TLS
    if (c->ssl) {
        ERR_clear_error();
        int n = SSL_write(c->ssl, data, (int)len);
        if (n > 0) return n;
        int why = SSL_get_error(c->ssl, n);
        return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? 0 : -1;
    }
#endif
    ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

static ssize_t take(conn *c, char *data, size_t len, int *blocked) {
    *blocked = 0;
#ifdef WITH_TLS
    if (c->ssl) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, data, (int)len);
        if (n > 0) return n;
        int why = SSL_get_error(c->ssl, n);
        *blocked = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
        return *blocked ? -1 : 0;
    }
#endif
    ssize_t n = recv(c->fd, data, len, 0);
    *blocked = n < 0 && errno == EAGAIN;
    return n;
}

/* Send now what fits, keep the rest; -1 when the connection is gone. */
static int emit(conn *c, const char *data, size_t len) {
    if (c->out_len == c->out_off) {
        ssize_t n = put(c, data, len);
        if (n < 0) return -1;
        data += n, len -= (size_t)n;
        c->out_len = c->out_off = 0;
    }
    if (!len) return 0;
    if (c->out_len + len > c->out_cap) {
        c->out_cap = (c->out_len + len) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    watch(c, 1);
    return 0;
}

static int flush(conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t n = put(c, c->out + c->out_off, c->out_len - c->out_off);
        if (n < 0) return -1;
        if (n == 0) return 0;
        c->out_off += (size_t)n;
    }
    c->out_len = c->out_off = 0;
    watch(c, 0);
    return 0;
}

/* ---- the stream ---- */

#define OPENING                                                                               \
    "data: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\","                \
    "\"created\":1700000000,\"model\":\"mock-model\",\"system_fingerprint\":\"fp_mock\","

/* Append one chunk of the chunked encoding to `at`; returns its size in bytes. */
static size_t chunk(char *at, const char *payload, size_t len) {
    size_t n = (size_t)sprintf(at, "%zx\r\n", len);
    memcpy(at + n, payload, len);
    memcpy(at + n + len, "\r\n", 2);
    return n + len + 2;
}

static size_t event(char *at, conn *c, const char *rest) {
    char payload[1024];
    int n = snprintf(payload, sizeof payload, OPENING "%s\n\n", (unsigned long long)c->id, rest);
    return chunk(at, payload, (size_t)n);
}

static char token_template[512];
static size_t token_len, token_id_at, token_text_at;

static void prepare_template(void) {
    conn c = {.id = 0};
    token_len = event(token_template, &c,
                      "\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                      "\"000000:000000000000000 \"},\"logprobs\":null,\"finish_reason\":null}]}");
    token_template[token_len] = 0;
    token_id_at = (size_t)(strstr(token_template, "chatcmpl-") - token_template) + 9;
    token_text_at = (size_t)(strstr(token_template, "000000:") - token_template);
}

static int send_token(conn *c) {
    char buf[1024];
    stats.tokens++;
    if (c->next_token == 0) {
        char rest[256];
        snprintf(rest, sizeof rest,
                 "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"000000:%015llu:%015llu \"},"
                 "\"logprobs\":null,\"finish_reason\":null}]}",
                 (unsigned long long)now_us(), (unsigned long long)c->request_us);
        size_t n = event(buf, c, rest);
        c->next_token++;
        return emit(c, buf, n);
    }
    memcpy(buf, token_template, token_len);
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)c->id);
    memcpy(buf + token_id_at, hex, 16);
    digits(buf + token_text_at, 6, (uint64_t)c->next_token++);
    digits(buf + token_text_at + 7, 15, now_us());
    return emit(c, buf, token_len);
}

static int send_end(conn *c) {
    char buf[4096], rest[256];
    size_t n = event(buf, c,
                     "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
                     "\"finish_reason\":\"stop\"}]}");
    if (c->usage) {
        snprintf(rest, sizeof rest,
                 "\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":%ld,"
                 "\"total_tokens\":%ld}}",
                 c->next_token, c->next_token + 10);
        n += event(buf + n, c, rest);
    }
    n += chunk(buf + n, "data: [DONE]\n\n", 14);
    memcpy(buf + n, "0\r\n\r\n", 5);
    c->streaming = 0;
    stats.finished++, stats.open--;
    return emit(c, buf, n + 5);
}

static int begin_stream(conn *c) {
    char buf[2048];
    int n = sprintf(buf, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                         "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    c->streaming = 1, c->next_token = 0, c->id = random_bits(), c->silent = silent_mode;
    c->request_us = now_us();
    stats.streams++, stats.open++;
    size_t role = event(buf + n, c,
                        "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                        "\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}");
    double wait = first_ms * 1000.0 + (jitter > 0 ? jitter * uniform() * 1e6 / rate : 0.0);
    timer_set(c, c->request_us + (uint64_t)wait);
    return emit(c, buf, (size_t)n + role);
}

static int tick(conn *c) {
    if (c->next_token >= tokens) return send_end(c);
    uint64_t due = c->due_us;
    if (send_token(c) < 0) return -1;
    if (!c->silent) timer_set(c, due + (uint64_t)(1e6 / rate));
    return 0;
}

/* ---- requests ---- */

static int answer(conn *c, const char *status, const char *body) {
    char buf[2048];
    int n = snprintf(buf, sizeof buf,
                     "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     status, strlen(body), body);
    return emit(c, buf, (size_t)n);
}

static int asks(const char *body, size_t len, const char *key) {
    const char *at = memmem(body, len, key, strlen(key)), *end = body + len;
    if (!at) return 0;
    for (at += strlen(key); at < end && (*at == ' ' || *at == ':'); at++) {}
    return end - at >= 4 && !memcmp(at, "true", 4);
}

static int handle(conn *c, const char *head, size_t head_len, const char *body, size_t len) {
    char text[512];
    (void)head_len;
    if (!strncmp(head, "GET /stats", 10)) {
        snprintf(text, sizeof text,
                 "{\"accepted\":%llu,\"handshakes\":%llu,\"requests\":%llu,\"streams\":%llu,"
                 "\"plain\":%llu,\"finished\":%llu,\"aborted\":%llu,\"tokens\":%llu,"
                 "\"open\":%llu,\"request_bytes\":%llu}",
                 (unsigned long long)stats.accepted, (unsigned long long)stats.handshakes,
                 (unsigned long long)stats.requests, (unsigned long long)stats.streams,
                 (unsigned long long)stats.plain, (unsigned long long)stats.finished,
                 (unsigned long long)stats.aborted, (unsigned long long)stats.tokens,
                 (unsigned long long)stats.open, (unsigned long long)stats.request_bytes);
        return answer(c, "200 OK", text);
    }
    if (!strncmp(head, "GET /v1/models", 14))
        return answer(c, "200 OK",
                      "{\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\","
                      "\"created\":1700000000,\"owned_by\":\"mock\"}]}");
    if (strncmp(head, "POST /v1/chat/completions", 25))
        return answer(c, "404 Not Found", "{\"error\":{\"message\":\"unknown path\"}}");
    stats.requests++;
    stats.request_bytes += len;
    c->usage = asks(body, len, "\"include_usage\"");
    if (asks(body, len, "\"stream\"")) return begin_stream(c);
    stats.plain++;
    return answer(c, "200 OK",
                  "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":1700000000,"
                  "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                  "\"assistant\",\"content\":\"A title\"},\"finish_reason\":\"stop\"}],"
                  "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}");
}

/* Serve every whole request in the buffer while no stream runs; -1 when the connection is gone. */
static int serve(conn *c) {
    while (!c->streaming && c->in_len) {
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) return 0;
        size_t head = (size_t)(end - c->in) + 4, len = 0;
        for (char *line = c->in; line < end;
             line = (char *)memmem(line, (size_t)(end + 4 - line), "\r\n", 2) + 2)
            if (!strncasecmp(line, "content-length:", 15)) len = strtoul(line + 15, NULL, 10);
        if (len > REQUEST_LIMIT) return -1;
        if (c->in_len < head + len) return 0;
        if (handle(c, c->in, head, c->in + head, len) < 0) return -1;
        c->in_len -= head + len;
        memmove(c->in, c->in + head + len, c->in_len);
        if (!c->in_len && c->in_cap > 8192) free(c->in), c->in = NULL, c->in_cap = 0;
    }
    return 0;
}

static int readable(conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 4096) {
            if (c->in_cap > REQUEST_LIMIT + 65536) return -1;
            c->in_cap = c->in_cap ? c->in_cap * 2 : 8192;
            c->in = realloc(c->in, c->in_cap);
        }
        int blocked;
        size_t room = c->in_cap - c->in_len;
        ssize_t n = take(c, c->in + c->in_len, room, &blocked);
        if (blocked) break;
        if (n <= 0) return -1;
        c->in_len += (size_t)n;
        if (!c->ssl && (size_t)n < room) break;
    }
    return serve(c);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn *c = calloc(1, sizeof *c);
        c->fd = fd, c->slot = -1, c->all_next = all;
        if (all) all->all_prev = c;
        all = c;
        stats.accepted++;
#ifdef WITH_TLS
        if (tls) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, fd);
            SSL_set_accept_state(c->ssl);
        }
#endif
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
    }
}

static int on_event(conn *c, uint32_t events) {
#ifdef WITH_TLS
    if (c->ssl && !c->handshaken) {
        ERR_clear_error();
        int n = SSL_do_handshake(c->ssl);
        if (n != 1) {
            int why = SSL_get_error(c->ssl, n);
            watch(c, why == SSL_ERROR_WANT_WRITE);
            return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        c->handshaken = 1;
        stats.handshakes++;
        watch(c, 0);
    }
#endif
    if (events & EPOLLOUT && flush(c) < 0) return -1;
    return events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? readable(c) : 0;
}

static void run_timers(uint64_t now) {
    uint64_t until = now / TICK_US;
    while (wheel_tick < until) {
        conn *c = wheel[++wheel_tick % SLOTS];
        while (c) {
            conn *next = c->next;
            if (c->due_us / TICK_US <= wheel_tick) {
                timer_clear(c);
                /* a reply's end may let the next, already read request begin */
                if (tick(c) < 0 || serve(c) < 0) drop(c);
            }
            c = next;
        }
    }
}

/* End every silent stream, each at its own moment within release_s. */
static void release_silent(void) {
    uint64_t now = now_us();
    for (conn *c = all; c; c = c->all_next)
        if (c->streaming && c->silent && c->next_token) {
            c->silent = 0, c->next_token = tokens;
            timer_set(c, now + (uint64_t)(uniform() * release_s * 1e6));
        }
}

static void on_signal(int sig) {
    if (sig == SIGUSR1) release_asked = 1;
    else stop_asked = 1;
}

static const char *USAGE =
    "usage: mock_upstream --port N [--tokens 200] [--rate 20] [--jitter 1] [--first-ms 0]\n"
    "                     [--silent] [--release-s 5] [--tls-cert FILE --tls-key FILE]\n"
    "  --tokens    tokens a reply (with --silent: 1, then silence until SIGUSR1)\n"
    "  --rate      tokens per second and stream\n"
    "  --jitter    share of one interval within which a stream's phase is drawn, 0 to 1\n"
    "  --release-s seconds over which SIGUSR1 spreads the ends of silent streams\n"
    "  --first-ms  the upstream's own time to its first token, milliseconds\n";

int main(int argc, char **argv) {
    int port = 0, opt;
    const char *cert = NULL, *key = NULL;
    static const struct option options[] = {
        {"port", 1, 0, 'p'},     {"tokens", 1, 0, 'n'},   {"rate", 1, 0, 'r'},
        {"jitter", 1, 0, 'j'},   {"first-ms", 1, 0, 'f'}, {"silent", 0, 0, 's'},
        {"release-s", 1, 0, 'R'}, {"tls-cert", 1, 0, 'c'}, {"tls-key", 1, 0, 'k'},  {"help", 0, 0, 'h'},
        {0, 0, 0, 0}};
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) switch (opt) {
        case 'p': port = atoi(optarg); break;
        case 'n': tokens = atol(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'j': jitter = atof(optarg); break;
        case 'f': first_ms = atof(optarg); break;
        case 's': silent_mode = 1; break;
        case 'R': release_s = atof(optarg); break;
        case 'c': cert = optarg; break;
        case 'k': key = optarg; break;
        default: fputs(USAGE, opt == 'h' ? stdout : stderr); return opt == 'h' ? 0 : 2;
        }
    if (silent_mode) tokens = 1;
    if (port <= 0 || rate <= 0 || tokens < 1 || tokens > 999999) return fputs(USAGE, stderr), 2;
    if (cert) {
#ifdef WITH_TLS
        tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
        if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, key ? key : cert, SSL_FILETYPE_PEM) != 1)
            return fprintf(stderr, "cannot read certificate %s or its key\n", cert), 2;
#else
        (void)key;
        return fputs("built without TLS: the OpenSSL headers are missing\n", stderr), 2;
#endif
    }
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &act, NULL), sigaction(SIGTERM, &act, NULL), sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    prepare_template();

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 8192))
        return perror("bind"), 2;
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &e);
    static const struct itimerspec every_tick = {{0, TICK_US * 1000}, {0, TICK_US * 1000}}, never;
    int clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), ticking = 0;
    e.data.ptr = &clock_fd;
    epoll_ctl(epfd, EPOLL_CTL_ADD, clock_fd, &e);
    wheel_tick = now_us() / TICK_US;
    while (!stop_asked) {
        if (ticking != (timers > 0)) {
            ticking = timers > 0;
            timerfd_settime(clock_fd, 0, ticking ? &every_tick : &never, NULL);
        }
        int n = epoll_wait(epfd, ready, 512, 200);
        for (int i = 0; i < n; i++) {
            uint64_t expirations;
            if (!ready[i].data.ptr) accept_all(listener);
            else if (ready[i].data.ptr == &clock_fd) (void)!read(clock_fd, &expirations, 8);
            else if (on_event(ready[i].data.ptr, ready[i].events) < 0) drop(ready[i].data.ptr);
        }
        run_timers(now_us()); /* after the events: a timer may free a connection */
        if (release_asked) release_asked = 0, release_silent();
    }
    return 0;
}
