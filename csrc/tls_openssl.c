/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl.c: sessions of OpenSSL that read and write memory. It knows OpenSSL by the addresses
 * of its functions alone, and so works with the one that a process has loaded already.
 */
#include "tls_openssl.h"
#ifndef WS_NO_TLS

#include <stdlib.h>
#include <string.h>

/* A ClientHello is kept until it names a server. One with keys of post-quantum cryptography and a
 * ticket has 2 to 4 KiB. */
enum { HELLO_MAX = 64 * 1024, HELLO_STEP = 1024 };

/* How many records without data a client may send for each 16 KiB of data. A KeyUpdate (RFC 8446
 * section 4.6.3) of 27 bytes costs as much as some 20 KiB of data, and may ask for another one.
 * OpenSSL handles all that it has read before this can end the session, so it reads little. */
enum { EMPTY_MAX = 32, DATA_STEP = 16 * 1024, READ_STEP = 4 * 1024 };

struct tls_session {
    struct ws_openssl *owner;
    struct ssl_st *ssl; /* NULL only after a failure */
    ws_tls_wire *wire;  /* during a call */
    const char *why;
    /* What was received until the client has named a server, NULL if there is nothing. It is first
     * read by a session of `reader` and then, from its beginning on, by the real one. */
    char *hello;
    uint32_t hello_length, hello_taken;
    const struct ws__openssl_host *host; /* during the call that finds it */
    char *name;    /* that the client has asked for, unless OpenSSL keeps it, too */
    uint32_t data; /* bytes since the last refill of `empties` */
    int empties;   /* records without data that may still come */
    bool is_reader;
    bool in_record; /* the header of a record has come, but not all of it */
    bool starved; /* a call has read all there is */
    bool usable;  /* the handshake is complete, and nothing has failed */
};

/* The session whose call runs in this thread: callbacks cannot ask a BIO or an SSL for it, because
 * the addresses of the functions for that depend on the session. */
static _Thread_local struct tls_session *current;

/* ---- the wire ----------------------------------------------------------------------------- */

static size_t take(char *bytes, size_t n, const char *from, size_t length)
{
    if (n > length)
        n = length;
    memcpy(bytes, from, n);
    return n;
}

static size_t take_hello(struct tls_session *s, char *bytes, size_t n)
{
    n = take(bytes, n, s->hello + s->hello_taken, s->hello_length - s->hello_taken);
    s->hello_taken += (uint32_t)n;
    if (s->hello_taken == s->hello_length && !s->is_reader) {
        free(s->hello);
        s->hello = NULL;
    }
    return n;
}

static int wire_read(struct bio_st *bio, char *bytes, size_t n, size_t *got)
{
    struct tls_session *s = current;
    if (n > READ_STEP)
        n = READ_STEP;
    *got = 0;
    if (s->hello)
        *got = take_hello(s, bytes, n);
    if (!*got && s->wire->in_length) {
        *got = take(bytes, n, s->wire->in, s->wire->in_length);
        s->wire->in += *got;
        s->wire->in_length -= *got;
    }
    if (*got)
        return 1;
    s->starved = true;
    s->owner->functions.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    return 0;
}

static int wire_write(struct bio_st *bio, const char *bytes, size_t n, size_t *written)
{
    const struct tls_session *s = current;
    ws_tls_wire *wire = s->wire;
    *written = take(wire->out + wire->out_length, wire->out_size - wire->out_length, bytes, n);
    wire->out_length += *written;
    if (*written || !n)
        return 1;
    s->owner->functions.BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY);
    return 0;
}

static long wire_control(struct bio_st *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

const ws_openssl *ws__openssl_owner(const struct ssl_st *ssl)
{
    return current && current->ssl == ssl ? current->owner : NULL;
}

/* ---- calls -------------------------------------------------------------------------------- */

/* SSL_get_error looks at the errors of the thread, where others may have left some. */
static void begin_call(struct tls_session *s, ws_tls_wire *wire)
{
    ws__openssl_forget_errors(&s->owner->functions);
    s->wire = wire;
    s->starved = false;
    current = s;
}

static int end_call(int result)
{
    current = NULL;
    return result;
}

/* `why` NULL: the reason is what a callback has left, the certificate of the client, or the first
 * error of the thread. */
static int fault(struct tls_session *s, const char *why)
{
    const ws_openssl_functions *f = &s->owner->functions;
    const unsigned long error = f->ERR_peek_error();
    const long verified = s->ssl ? f->SSL_get_verify_result(s->ssl) : 0;
    if (!why)
        why = s->why;
    if (!why && verified)
        why = f->X509_verify_cert_error_string(verified);
    if (!why && error)
        why = f->ERR_reason_error_string(error);
    s->why = why;
    s->usable = false;
    f->ERR_clear_error();
    return WS_TLS_FAILED;
}

/* What a call that has returned `result` <= 0 means. */
static int explain(struct tls_session *s, int result)
{
    switch (s->owner->functions.SSL_get_error(s->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return WS_TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return WS_TLS_CLOSED;
    default:
        return fault(s, NULL);
    }
}

/* ---- the ClientHello ---------------------------------------------------------------------- */

static bool is_cheap(unsigned group)
{
    enum { SECP256R1 = 23, SECP384R1 = 24, X25519 = 29, X25519MLKEM768 = 4588 };
    return group == SECP256R1 || group == SECP384R1 || group == X25519 || group == X25519MLKEM768;
}

/* True if OpenSSL may use a key share of FFDHE (RFC 8446 section 4.2.8, RFC 7919), since none of
 * a usual group precedes it: with 8192 bits, which OpenSSL allows by default before 3.5, that takes
 * 90 ms, and the client need not compute anything. It refuses a malformed list itself. */
static bool wants_ffdhe(const ws_openssl_functions *f, struct ssl_st *ssl)
{
    enum { LIST_HEAD = 2, SHARE_HEAD = 4, FFDHE = 1 };
    const unsigned char *list = NULL;
    size_t length = 0;
    if (!f->SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_key_share, &list, &length))
        return false;
    for (size_t at = LIST_HEAD; at + SHARE_HEAD <= length;) {
        const unsigned char *share = list + at;
        if (share[0] == FFDHE)
            return true;
        if (is_cheap((unsigned)share[0] << 8 | share[1]))
            return false;
        at += SHARE_HEAD + ((size_t)share[2] << 8 | share[3]);
    }
    return false;
}

/* The extension is a list of names, whose first and, since there is only one type of names, only
 * one is read (RFC 6066 section 3). If it is malformed, no name is kept;
 * OpenSSL refuses it itself. */
static bool keep_name(struct tls_session *s, struct ssl_st *ssl)
{
    const ws_openssl_functions *f = &s->owner->functions;
    const unsigned char *list = NULL;
    size_t length = 0;
    free(s->name);
    s->name = NULL;
    if (!f->SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &list, &length) ||
        length <= 5 || list[2] != TLSEXT_NAMETYPE_host_name)
        return true;
    s->name = calloc(1, length - 5 + 1);
    if (s->name)
        memcpy(s->name, list + 5, length - 5);
    return s->name;
}

/* All contexts have this callback; it may run for an SSL of somebody else. */
int ws__openssl_on_client_hello(struct ssl_st *ssl, int *alert, void *user)
{
    struct tls_session *s = current;
    (void)user;
    if (!s || s->ssl != ssl)
        return SSL_CLIENT_HELLO_SUCCESS;
    if (!keep_name(s, ssl)) {
        s->why = "out of memory";
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (wants_ffdhe(&s->owner->functions, ssl)) {
        s->why = "the client insists on an expensive exchange of keys (FFDHE)";
        *alert = SSL_AD_HANDSHAKE_FAILURE;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!s->is_reader)
        return SSL_CLIENT_HELLO_SUCCESS;
    const char *name = s->name ? s->name : "";
    s->host = ws__openssl_find_host(s->owner, name, strlen(name));
    if (s->host)
        return SSL_CLIENT_HELLO_RETRY;
    s->why = "there is no context for the name of the server";
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_CLIENT_HELLO_ERROR;
}

/* OpenSSL knows the name as well, but not if a session of TLS 1.2 was resumed. */
static void release_name(struct tls_session *s)
{
    if (!s->owner->functions.SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name))
        return;
    free(s->name);
    s->name = NULL;
}

static bool make_reader(struct ws_openssl *o)
{
    const ws_openssl_functions *f = &o->functions;
    if (o->reader)
        return true;
    o->reader = f->SSL_CTX_new(f->TLS_server_method());
    if (o->reader)
        f->SSL_CTX_set_client_hello_cb(o->reader, ws__openssl_on_client_hello, NULL);
    return o->reader;
}

/* ---- sessions ----------------------------------------------------------------------------- */

/* OpenSSL 1.1.1 takes an unsigned long, which a 32-bit machine passes differently. */
static void refuse_renegotiation(const ws_openssl_functions *f, struct ssl_st *ssl)
{
    typedef unsigned long set_long(struct ssl_st *, unsigned long);
    if (sizeof(long) < sizeof(uint64_t) && f->OpenSSL_version_num() < 0x30000000)
        ((set_long *)(void (*)(void))f->SSL_set_options)(ssl, SSL_OP_NO_RENEGOTIATION);
    else
        f->SSL_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
}

/* A callback for all that is read and written, here for the headers of records, and the real types
 * of those of TLS 1.3. */
static void on_record(int written, int version, int type, const void *bytes, size_t length,
                       struct ssl_st *ssl, void *user)
{
    (void)version, (void)length, (void)ssl, (void)user;
    if (written)
        return;
    current->in_record = type == SSL3_RT_HEADER;
    if (type != SSL3_RT_HEADER && type != SSL3_RT_INNER_CONTENT_TYPE)
        return;
    if (*(const unsigned char *)bytes != SSL3_RT_APPLICATION_DATA)
        current->empties--;
}

/* Without SSL_MODE_AUTO_RETRY, SSL_read returns after records without data, once it has handled all
 * that it has read. Read and write buffers (34 KiB) exist only while they are in use. */
static bool attach(struct tls_session *s, struct ssl_ctx_st *context, const unsigned char *id)
{
    const ws_openssl_functions *f = &s->owner->functions;
    struct ssl_st *ssl = f->SSL_new(context);
    struct bio_st *bio = ssl ? f->BIO_new(s->owner->method) : NULL;
    if (!bio || (id && !f->SSL_set_session_id_context(ssl, id, WS__OPENSSL_ID_LENGTH))) {
        f->SSL_free(ssl);
        return false;
    }
    f->BIO_set_init(bio, 1);
    f->SSL_set_bio(ssl, bio, bio);
    f->SSL_set_accept_state(ssl);
    const long modes = SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE;
    f->SSL_ctrl(ssl, SSL_CTRL_CLEAR_MODE, modes, NULL);
    f->SSL_ctrl(ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
    f->SSL_set_read_ahead(ssl, 1);
    f->SSL_set_msg_callback(ssl, on_record);
    refuse_renegotiation(f, ssl);
    s->ssl = ssl;
    return true;
}

static void *session_open(void *context)
{
    struct ws_openssl *o = context;
    struct tls_session *s = o->hosts.list ? calloc(1, sizeof *s) : NULL;
    if (!s)
        return NULL;
    s->owner = o;
    s->is_reader = !ws__tls_names_only_default(&o->hosts.names);
    const struct ws__openssl_host *host = o->hosts.list;
    if (s->is_reader ? make_reader(o) && attach(s, o->reader, NULL)
                     : attach(s, host->context, host->id))
        return s;
    o->functions.ERR_clear_error();
    free(s);
    return NULL;
}

static bool keep_hello(struct tls_session *s, ws_tls_wire *wire)
{
    const size_t length = s->hello_length + wire->in_length;
    if (!s->hello || length / HELLO_STEP != s->hello_length / HELLO_STEP) {
        char *hello = realloc(s->hello, (length / HELLO_STEP + 1) * HELLO_STEP);
        if (!hello)
            return false;
        s->hello = hello;
    }
    memcpy(s->hello + s->hello_length, wire->in, wire->in_length);
    s->hello_length = (uint32_t)length;
    wire->in += wire->in_length;
    wire->in_length = 0;
    return true;
}

/* Reads what the client says until it is known which host it asks for, and begins again with the
 * context of that. (SSL_set_SSL_CTX, in the middle of a handshake, would change the certificate but
 * not whose clients are accepted, nor the versions and ciphers.) */
static int find_context(struct tls_session *s, ws_tls_wire *wire)
{
    const ws_openssl_functions *f = &s->owner->functions;
    if (wire->in_length > HELLO_MAX - s->hello_length)
        return fault(s, "the ClientHello is too long");
    if (wire->in_length && !keep_hello(s, wire))
        return fault(s, "out of memory");
    const int result = f->SSL_do_handshake(s->ssl);
    if (!s->host)
        return explain(s, result);
    f->SSL_free(s->ssl);
    s->ssl = NULL;
    s->is_reader = false;
    s->hello_taken = 0;
    if (!attach(s, s->host->context, s->host->id))
        return fault(s, "out of memory");
    return WS_TLS_DONE;
}

static int shake_hands(struct tls_session *s, ws_tls_wire *wire)
{
    const ws_openssl_functions *f = &s->owner->functions;
    int result = s->is_reader ? find_context(s, wire) : WS_TLS_DONE;
    if (result != WS_TLS_DONE)
        return result;
    result = f->SSL_do_handshake(s->ssl);
    if (result <= 0)
        return explain(s, result);
    ws__openssl_forget_errors(f);
    release_name(s);
    s->usable = true;
    s->in_record = false;
    s->empties = EMPTY_MAX;
    return WS_TLS_DONE;
}

static int session_handshake(void *session, ws_tls_wire *wire)
{
    begin_call(session, wire);
    return end_call(shake_hands(session, wire));
}

static void count_data(struct tls_session *s, size_t n)
{
    s->data += (uint32_t)n;
    if (s->data < DATA_STEP)
        return;
    s->data = 0;
    s->empties = EMPTY_MAX;
}

static int read_data(struct tls_session *s, ws_tls_wire *wire, char *bytes, size_t n, size_t *got)
{
    const ws_openssl_functions *f = &s->owner->functions;
    const int room = n < WS_TLS_CHUNK ? (int)n : WS_TLS_CHUNK;
    for (;;) {
        const int length = f->SSL_read(s->ssl, bytes, room);
        if (s->empties < 0)
            return fault(s, "too many records without data");
        if (length > 0) {
            s->in_record = false;
            *got = (size_t)length;
            count_data(s, *got);
            const bool rest = wire->in_length || s->hello || f->SSL_has_pending(s->ssl);
            return rest ? WS_TLS_DONE : WS_TLS_MORE;
        }
        const int result = explain(s, length);
        if (result != WS_TLS_MORE || s->starved || wire->out_length == wire->out_size)
            return result;
    }
}

static int session_read(void *session, ws_tls_wire *wire, char *bytes, size_t n, size_t *got)
{
    begin_call(session, wire);
    return end_call(read_data(session, wire, bytes, n, got));
}

static bool session_pending(void *session)
{
    const struct tls_session *s = session;
    return s->hello || s->in_record || s->owner->functions.SSL_has_pending(s->ssl);
}

static int session_write(void *session, ws_tls_wire *wire, const char *bytes, size_t n)
{
    struct tls_session *s = session;
    if (!n)
        return WS_TLS_DONE;
    begin_call(s, wire);
    const int result = s->owner->functions.SSL_write(s->ssl, bytes, (int)n);
    if (result > 0)
        return end_call(WS_TLS_DONE);
    const int reason = explain(s, result);
    return end_call(reason == WS_TLS_MORE ? fault(s, "a record is too long") : WS_TLS_FAILED);
}

static void session_close(void *session, ws_tls_wire *wire)
{
    struct tls_session *s = session;
    if (!s->usable)
        return;
    begin_call(s, wire);
    s->owner->functions.SSL_shutdown(s->ssl);
    ws__openssl_forget_errors(&s->owner->functions);
    end_call(WS_TLS_DONE);
}

static void session_free(void *session)
{
    struct tls_session *s = session;
    s->owner->functions.SSL_free(s->ssl);
    free(s->hello);
    free(s->name);
    free(s);
}

static const char *session_error(void *session)
{
    return ((struct tls_session *)session)->why;
}

/* ---- the public functions ----------------------------------------------------------------- */

int ws_openssl_abi(void)
{
    return WS_ABI;
}

static bool has_all(const ws_openssl_functions *f)
{
    typedef void function(void);
    const size_t first = offsetof(ws_openssl_functions, OpenSSL_version_num);
    for (size_t at = first; at < sizeof *f; at += sizeof(function *)) {
        function *fn;
        memcpy(&fn, (const char *)f + at, sizeof fn);
        if (!fn)
            return false;
    }
    return true;
}

static bool make_method(struct ws_openssl *o)
{
    const ws_openssl_functions *f = &o->functions;
    o->method = f->BIO_meth_new(BIO_TYPE_SOURCE_SINK, "pyws");
    return o->method && f->BIO_meth_set_read_ex(o->method, wire_read) &&
           f->BIO_meth_set_write_ex(o->method, wire_write) &&
           f->BIO_meth_set_ctrl(o->method, wire_control);
}

int ws_openssl_new(ws_openssl **openssl, const ws_openssl_functions *functions)
{
    *openssl = NULL;
    if (functions->size != sizeof *functions)
        return WS_EABI;
    if (!has_all(functions))
        return WS_EINVAL;
    if (functions->OpenSSL_version_num() < 0x10101000)
        return WS_ENOTSUP;
    struct ws_openssl *o = calloc(1, sizeof *o);
    if (!o)
        return WS_ENOMEM;
    o->functions = *functions;
    o->tls = (ws_tls){
        .size = sizeof o->tls,
        .context = o,
        .open = session_open,
        .handshake = session_handshake,
        .read = session_read,
        .pending = session_pending,
        .write = session_write,
        .close = session_close,
        .free = session_free,
        .error = session_error,
    };
    if (!make_method(o) || !ws__openssl_are_common(functions, &o->is_common)) {
        o->functions.ERR_clear_error();
        ws_openssl_free(o);
        return WS_ENOMEM;
    }
    *openssl = o;
    return WS_OK;
}

void ws_openssl_free(ws_openssl *openssl)
{
    if (!openssl)
        return;
    const ws_openssl_functions *f = &openssl->functions;
    ws__openssl_drop_hosts(openssl, &openssl->hosts);
    f->SSL_CTX_free(openssl->reader);
    f->BIO_meth_free(openssl->method);
    f->OPENSSL_cleanse(openssl->keys, sizeof openssl->keys);
    free(openssl);
}

const ws_tls *ws_openssl_tls(const ws_openssl *openssl)
{
    return &openssl->tls;
}

/* ---- what is known of a connection -------------------------------------------------------- */

int ws_openssl_get_info(void *session, ws_openssl_info *info)
{
    const struct tls_session *s = session;
    const ws_openssl_functions *f = &s->owner->functions;
    const unsigned char *protocol;
    unsigned length;
    if (info->size != sizeof *info)
        return WS_EABI;
    const struct ssl_cipher_st *cipher = f->SSL_get_current_cipher(s->ssl);
    f->SSL_get0_alpn_selected(s->ssl, &protocol, &length);
    info->version = f->SSL_get_version(s->ssl);
    info->cipher = f->SSL_CIPHER_get_name(cipher);
    info->server_name = s->name;
    if (!s->name)
        info->server_name = f->SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    info->protocol = (const char *)protocol;
    info->protocol_length = length;
    info->resumed = f->SSL_session_reused(s->ssl);
    return WS_OK;
}

ptrdiff_t ws_openssl_peer_certificate(void *session, void *der, size_t size)
{
    const struct tls_session *s = session;
    const ws_openssl_functions *f = &s->owner->functions;
    struct x509_st *certificate = f->SSL_get1_peer_certificate(s->ssl);
    if (!certificate)
        return 0;
    unsigned char *bytes = der;
    int length = f->i2d_X509(certificate, NULL);
    if (length > 0 && (size_t)length <= size)
        length = f->i2d_X509(certificate, &bytes);
    f->X509_free(certificate);
    ws__openssl_forget_errors(f);
    return length > 0 ? length : WS_ENOMEM;
}

#endif
