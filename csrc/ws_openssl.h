/* SPDX-License-Identifier: MIT */
/*
 * ws_openssl.h: TLS by OpenSSL 1.1.1 or 3.x, as a table of ws_tls.h.
 *
 *     ws_openssl *openssl;
 *     ws_openssl_new(&openssl, ws_openssl_linked());
 *     ws_openssl_context contexts[] = {{"*", ssl_ctx}};
 *     ws_openssl_set_contexts(openssl, contexts, 1);
 *     listen_options.tls = ws_openssl_tls(openssl);
 *
 * The library libpyws_openssl includes no header of OpenSSL and does not have to be linked to it:
 * it calls the functions whose addresses it gets, those of the OpenSSL that the program or its
 * interpreter has loaded. Built with -Dtls=openssl it is linked to OpenSSL, and ws_openssl_linked
 * returns these addresses. The types of OpenSSL are opaque here; they are the types of its own
 * headers: struct ssl_ctx_st is SSL_CTX.
 *
 * A ws_openssl belongs to the thread of the servers that use its table; all functions must be
 * called from it, unless their comment says "Any thread". Several threads may use one SSL_CTX, each
 * with its own ws_openssl. What OpenSSL allocates is not counted by max_memory.
 *
 * The words for ownership, threads and errors are those of ws.h.
 */
#ifndef WS_OPENSSL_H
#define WS_OPENSSL_H

#include "ws_tls.h"

#ifdef __cplusplus
extern "C" {
#endif

struct bio_method_st;
struct bio_st;
struct engine_st;
struct evp_cipher_ctx_st;
struct evp_cipher_st;
struct evp_md_st;
struct hmac_ctx_st;
struct ssl_cipher_st;
struct ssl_ctx_st;
struct ssl_method_st;
struct ssl_st;
struct x509_st;

/* Addresses of the functions of OpenSSL that have these names; its manual describes them. What are
 * macros there, such as SSL_set_mode, are calls of SSL_ctrl or SSL_CTX_ctrl. */
typedef struct ws_openssl_functions {
    size_t size; /* sizeof(ws_openssl_functions) of the caller */

    /* libcrypto */
    unsigned long (*OpenSSL_version_num)(void);
    void (*OPENSSL_cleanse)(void *bytes, size_t length);
    unsigned char *(*SHA256)(const unsigned char *bytes, size_t length, unsigned char *hash);
    int (*RAND_bytes)(unsigned char *bytes, int length);
    const struct evp_cipher_st *(*EVP_aes_256_cbc)(void);
    const struct evp_md_st *(*EVP_sha256)(void);
    int (*EVP_CipherInit_ex)(struct evp_cipher_ctx_st *context, const struct evp_cipher_st *cipher,
                             struct engine_st *engine, const unsigned char *key,
                             const unsigned char *iv, int encrypt);
    int (*HMAC_Init_ex)(struct hmac_ctx_st *context, const void *key, int length,
                        const struct evp_md_st *hash, struct engine_st *engine);
    void (*ERR_clear_error)(void);
    unsigned long (*ERR_peek_error)(void);
    const char *(*ERR_reason_error_string)(unsigned long error);
    struct bio_method_st *(*BIO_meth_new)(int type, const char *name);
    void (*BIO_meth_free)(struct bio_method_st *method);
    int (*BIO_meth_set_read_ex)(struct bio_method_st *method,
                                int (*fn)(struct bio_st *, char *, size_t, size_t *));
    int (*BIO_meth_set_write_ex)(struct bio_method_st *method,
                                 int (*fn)(struct bio_st *, const char *, size_t, size_t *));
    int (*BIO_meth_set_ctrl)(struct bio_method_st *method,
                             long (*fn)(struct bio_st *, int, long, void *));
    struct bio_st *(*BIO_new)(const struct bio_method_st *method);
    void (*BIO_set_init)(struct bio_st *bio, int init);
    void (*BIO_set_flags)(struct bio_st *bio, int flags);
    int (*i2d_X509)(const struct x509_st *certificate, unsigned char **der);
    void (*X509_free)(struct x509_st *certificate);
    const char *(*X509_verify_cert_error_string)(long error);

    /* libssl: contexts */
    const struct ssl_method_st *(*TLS_server_method)(void);
    struct ssl_ctx_st *(*SSL_CTX_new)(const struct ssl_method_st *method);
    void (*SSL_CTX_free)(struct ssl_ctx_st *context);
    int (*SSL_CTX_up_ref)(struct ssl_ctx_st *context);
    long (*SSL_CTX_ctrl)(struct ssl_ctx_st *context, int command, long number, void *pointer);
    long (*SSL_CTX_callback_ctrl)(struct ssl_ctx_st *context, int command, void (*fn)(void));
    int (*SSL_CTX_get_verify_mode)(const struct ssl_ctx_st *context);
    struct x509_st *(*SSL_CTX_get0_certificate)(const struct ssl_ctx_st *context);
    void (*SSL_CTX_set_client_hello_cb)(struct ssl_ctx_st *context,
                                        int (*fn)(struct ssl_st *, int *, void *), void *user);
    void (*SSL_CTX_set_alpn_select_cb)(struct ssl_ctx_st *context,
                                       int (*fn)(struct ssl_st *, const unsigned char **,
                                                 unsigned char *, const unsigned char *, unsigned,
                                                 void *),
                                       void *user);
    int (*SSL_CTX_set_cipher_list)(struct ssl_ctx_st *context, const char *names);
    void (*SSL_CTX_set_default_passwd_cb)(struct ssl_ctx_st *context,
                                          int (*fn)(char *, int, int, void *));
    void (*SSL_CTX_set_default_passwd_cb_userdata)(struct ssl_ctx_st *context, void *user);
    int (*SSL_CTX_use_certificate_chain_file)(struct ssl_ctx_st *context, const char *path);
    int (*SSL_CTX_use_PrivateKey_file)(struct ssl_ctx_st *context, const char *path, int type);
    int (*SSL_CTX_check_private_key)(const struct ssl_ctx_st *context);

    /* libssl: connections */
    struct ssl_st *(*SSL_new)(struct ssl_ctx_st *context);
    void (*SSL_free)(struct ssl_st *ssl);
    struct ssl_ctx_st *(*SSL_get_SSL_CTX)(const struct ssl_st *ssl);
    void (*SSL_set_bio)(struct ssl_st *ssl, struct bio_st *read, struct bio_st *write);
    void (*SSL_set_accept_state)(struct ssl_st *ssl);
    void (*SSL_set_read_ahead)(struct ssl_st *ssl, int yes);
    void (*SSL_set_msg_callback)(struct ssl_st *ssl,
                                 void (*fn)(int, int, int, const void *, size_t, struct ssl_st *,
                                            void *));
    long (*SSL_ctrl)(struct ssl_st *ssl, int command, long number, void *pointer);
    uint64_t (*SSL_set_options)(struct ssl_st *ssl, uint64_t options); /* unsigned long in 1.1.1 */
    int (*SSL_set_session_id_context)(struct ssl_st *ssl, const unsigned char *id, unsigned length);
    int (*SSL_client_hello_get0_ext)(struct ssl_st *ssl, unsigned type, const unsigned char **bytes,
                                     size_t *length);
    int (*SSL_do_handshake)(struct ssl_st *ssl);
    int (*SSL_read)(struct ssl_st *ssl, void *bytes, int length);
    int (*SSL_has_pending)(const struct ssl_st *ssl);
    int (*SSL_write)(struct ssl_st *ssl, const void *bytes, int length);
    int (*SSL_shutdown)(struct ssl_st *ssl);
    int (*SSL_get_error)(const struct ssl_st *ssl, int result);
    long (*SSL_get_verify_result)(const struct ssl_st *ssl);
    const char *(*SSL_get_version)(const struct ssl_st *ssl);
    const struct ssl_cipher_st *(*SSL_get_current_cipher)(const struct ssl_st *ssl);
    const char *(*SSL_CIPHER_get_name)(const struct ssl_cipher_st *cipher);
    const char *(*SSL_get_servername)(const struct ssl_st *ssl, int type);
    void (*SSL_get0_alpn_selected)(const struct ssl_st *ssl, const unsigned char **name,
                                   unsigned *length);
    int (*SSL_session_reused)(const struct ssl_st *ssl);
    /* The name of this one is SSL_get_peer_certificate in OpenSSL 1.1.1. */
    struct x509_st *(*SSL_get1_peer_certificate)(const struct ssl_st *ssl);
} ws_openssl_functions;

/* Contexts, ticket keys and the table that speaks TLS with them. */
typedef struct ws_openssl ws_openssl;

/* Returns the WS_ABI that the library was built with. Any thread. */
WS_API int ws_openssl_abi(void);

/* Creates a ws_openssl without contexts, which the caller frees with ws_openssl_free. `functions`
 * is copied. Returns WS_OK, or sets *openssl to NULL and returns WS_ENOMEM, WS_EABI, WS_EINVAL (an
 * address is missing) or WS_ENOTSUP (OpenSSL is older than 1.1.1). Any thread. */
WS_API int ws_openssl_new(ws_openssl **openssl, const ws_openssl_functions *functions);

/* Frees it. `openssl` may be NULL. The servers that listen with its table must have been freed. */
WS_API void ws_openssl_free(ws_openssl *openssl);

/* Returns the table for ws_listen_options.tls, which is valid until `openssl` is freed. */
WS_API const ws_tls *ws_openssl_tls(const ws_openssl *openssl);

/* ---- contexts ----------------------------------------------------------------------------- */

/* The context for the clients that ask for a name (server name indication, RFC 6066). */
typedef struct ws_openssl_context {
    /* Copied; "example.org" or, for all names of one more label, "*.example.org", in ASCII. "*" is
     * for all other clients, which includes those that name no server. */
    const char *name;
    /* Kept (SSL_CTX_up_ref) while it is one of the contexts or has connections. */
    struct ssl_ctx_st *context;
} ws_openssl_context;

/* Sets the contexts in place of the previous ones. Connections that exist keep theirs. An exact
 * name is preferred to "*.example.org", and that to "*". A dot at the end of the name that a client
 * asks for does not count: RFC 6066 forbids it, but some clients send it. If there is no "*",
 * clients for which there is no context get the alert unrecognized_name. Until contexts were set,
 * no client is accepted.
 * Settings of a context hold for its connections as they are when they begin, with these
 * exceptions. The context gets callbacks for ALPN (RFC 7301) and the ClientHello: clients that
 * offer protocols get "http/1.1", or else "http/1.0", or the alert no_application_protocol. A
 * connection never renegotiates, and does not use FFDHE in TLS 1.3. A session is resumed only by
 * clients that ask for the same one of these names. ws_openssl_set_ticket_keys sets the keys of the
 * contexts; if two ws_openssl have the same context, those that were set last hold.
 * Returns WS_OK, or changes nothing and returns WS_ENOMEM or WS_EINVAL: count is 0, a context is
 * NULL, or a name is invalid or there twice. */
WS_API int ws_openssl_set_contexts(ws_openssl *openssl, const ws_openssl_context *contexts,
                                   size_t count);

#define WS_OPENSSL_TICKET_KEYS 80    /* bytes of the keys for one period */
#define WS_OPENSSL_TICKET_PERIODS 4  /* at most so many periods */

/* Sets the secret keys (copied) that protect session tickets, in all contexts and those that are
 * set later, so that other processes with the same keys resume the sessions of this one. The first
 * WS_OPENSSL_TICKET_KEYS bytes are for the tickets that are issued from now on. Up to three times
 * as many bytes may follow, keys of earlier periods: a client with such a ticket resumes its
 * session and gets a new ticket. Any other ticket costs its owner a full handshake.
 * Use random bytes, and new ones at least once a day: whoever knows them can read what was sent
 * under TLS 1.2, and pose as a client that has shown a certificate. Until this is called, each
 * context has keys of its own.
 * A process that has loaded OpenSSL twice accepts earlier keys only with the functions that came
 * first to ws_openssl_new.
 * Returns WS_OK, WS_EINVAL (length is not a multiple of WS_OPENSSL_TICKET_KEYS from 1 to
 * WS_OPENSSL_TICKET_PERIODS) or WS_ENOMEM. */
WS_API int ws_openssl_set_ticket_keys(ws_openssl *openssl, const void *keys, size_t length);

/* Returns true if the context has a certificate. One without can serve no usual client. */
WS_API bool ws_openssl_has_certificate(const ws_openssl *openssl,
                                       const struct ssl_ctx_st *context);

/* Gives a context what those of ws_openssl_load_context have: TLS 1.2 and 1.3, in TLS 1.2 only
 * ephemeral keys and authenticated encryption, and for the exchange of keys X25519, P-256 and
 * P-384, with X25519MLKEM768 before them where OpenSSL has it. It keeps no sessions, so that only
 * clients with tickets resume theirs. Returns WS_OK or WS_ENOMEM. */
WS_API int ws_openssl_set_defaults(const ws_openssl *openssl, struct ssl_ctx_st *context);

#define WS_OPENSSL_ERROR_SIZE 256

/* Creates a context from files in PEM format: cert_file holds the certificate and those of the
 * intermediate authorities after it, key_file its private key (NULL: it is in cert_file as well),
 * and `password` decrypts the key (NULL: it is not encrypted). The context has the settings of
 * ws_openssl_set_defaults.
 * The caller frees *context with ws_openssl_free_context, at any time after
 * ws_openssl_set_contexts. Returns WS_OK, or sets *context to NULL, writes a line to `error` that
 * says what is wrong with which file, and returns WS_EINVAL, WS_ESYSTEM (a file cannot be read, see
 * errno) or WS_ENOMEM. */
WS_API int ws_openssl_load_context(const ws_openssl *openssl, const char *cert_file,
                                   const char *key_file, const char *password,
                                   struct ssl_ctx_st **context, char error[WS_OPENSSL_ERROR_SIZE]);

/* Calls SSL_CTX_free: a connection or a ws_openssl that uses the context still keeps it. */
WS_API void ws_openssl_free_context(const ws_openssl *openssl, struct ssl_ctx_st *context);

/* ---- connections -------------------------------------------------------------------------- */

/* What is known of a connection whose handshake is complete. */
typedef struct ws_openssl_info {
    size_t size;         /* sizeof(ws_openssl_info) of the caller, set before the call */
    const char *version; /* "TLSv1.3"; static */
    const char *cipher;  /* "TLS_AES_128_GCM_SHA256"; static */
    const char *server_name; /* that the client asked for, as it wrote it; valid as long as the
                                connection; NULL: none */
    const char *protocol;    /* selected by ALPN, not terminated; valid as long as the connection;
                                NULL: none */
    size_t protocol_length;
    bool resumed; /* the client had been here, and there was no full handshake */
} ws_openssl_info;

/* Fills *info. `session` is what ws_conn_tls or ws_request_tls have returned. Returns WS_OK or
 * WS_EABI. */
WS_API int ws_openssl_get_info(void *session, ws_openssl_info *info);

/* Returns the length of the client's certificate in DER format, or 0 if it has shown none, and
 * copies it to `der` if there is room. Clients show certificates if the verify mode of the context
 * asks for them, and a handshake fails unless the context trusts them. Returns WS_ENOMEM if out of
 * memory. */
WS_API ptrdiff_t ws_openssl_peer_certificate(void *session, void *der, size_t size);

/* Returns the addresses of the OpenSSL that this library is linked to. Only with -Dtls=openssl. */
WS_API const ws_openssl_functions *ws_openssl_linked(void);

#ifdef __cplusplus
}
#endif
#endif
