/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl_contexts.c: which context serves which name, what pyws changes in it, and contexts
 * from files.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_CLOEXEC */
#endif

#include "tls_openssl.h"
#ifndef WS_NO_TLS

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ws__openssl_forget_errors(const ws_openssl_functions *functions)
{
    if (functions->ERR_peek_error())
        functions->ERR_clear_error();
}

const struct ws__openssl_host *ws__openssl_find_host(const ws_openssl *openssl, const char *name,
                                                     size_t length)
{
    const ptrdiff_t index = ws__tls_names_find(&openssl->hosts.names, name, length);
    return index < 0 ? NULL : &openssl->hosts.list[index];
}

void ws__openssl_drop_hosts(const ws_openssl *openssl, struct ws__openssl_hosts *hosts)
{
    for (size_t i = 0; hosts->list && i < hosts->names.count; i++)
        openssl->functions.SSL_CTX_free(hosts->list[i].context);
    free(hosts->list);
    hosts->list = NULL;
    ws__tls_names_deinit(&hosts->names);
}

/* Finds a name in a list of names after their lengths. */
static const unsigned char *find_protocol(const unsigned char *list, unsigned length,
                                          const char *name)
{
    const size_t n = strlen(name);
    for (const unsigned char *p = list; p < list + length; p += 1 + *p)
        if (*p == n && !memcmp(p + 1, name, n))
            return p;
    return NULL;
}

/* The list of the client is well-formed: OpenSSL has checked it. */
static int select_protocol(struct ssl_st *ssl, const unsigned char **name, unsigned char *length,
                           const unsigned char *list, unsigned list_length, void *user)
{
    (void)ssl, (void)user;
    const unsigned char *found = find_protocol(list, list_length, "http/1.1");
    if (!found)
        found = find_protocol(list, list_length, "http/1.0");
    if (!found)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *name = found + 1;
    *length = *found;
    return SSL_TLSEXT_ERR_OK;
}

/* A session that has begun without a certificate of the client must not go on where one is asked
 * for: neither at another name nor after the context of the name was replaced. */
static bool identify(const ws_openssl_functions *f, struct ws__openssl_host *host,
                     const struct ws__tls_name *name)
{
    unsigned char text[WS__HOST_NAME_MAX_LENGTH + 2];
    memcpy(text, name->text, name->length);
    text[name->length] = 0;
    text[name->length + 1] = (unsigned char)f->SSL_CTX_get_verify_mode(host->context);
    return f->SHA256(text, name->length + 2, host->id);
}

static int fill_host(const ws_openssl_functions *f, struct ws__openssl_hosts *hosts, size_t index,
                     const ws_openssl_context *from)
{
    if (!from->name || !from->context)
        return WS_EINVAL;
    const int error = ws__tls_names_set(&hosts->names, index, from->name);
    if (error)
        return error;
    if (!f->SSL_CTX_up_ref(from->context))
        return WS_ENOMEM;
    hosts->list[index].context = from->context;
    return identify(f, &hosts->list[index], &hosts->names.sorted[index]) ? WS_OK : WS_ENOMEM;
}

static int fill_hosts(const ws_openssl_functions *f, struct ws__openssl_hosts *hosts,
                      const ws_openssl_context *contexts, size_t count)
{
    hosts->list = calloc(count, sizeof *hosts->list);
    int error = ws__tls_names_init(&hosts->names, count);
    if (!hosts->list || error)
        return WS_ENOMEM;
    for (size_t i = 0; i < count && !error; i++)
        error = fill_host(f, hosts, i, &contexts[i]);
    return error ? error : ws__tls_names_sort(&hosts->names);
}

int ws_openssl_set_contexts(ws_openssl *openssl, const ws_openssl_context *contexts, size_t count)
{
    const ws_openssl_functions *f = &openssl->functions;
    struct ws__openssl_hosts hosts = {.list = NULL};
    int error = count ? fill_hosts(f, &hosts, contexts, count) : WS_EINVAL;
    if (!error && openssl->periods && !ws__openssl_use_keys(openssl, &hosts, openssl->keys[0]))
        error = WS_ENOMEM;
    if (error) {
        ws__openssl_forget_errors(f);
        ws__openssl_drop_hosts(openssl, &hosts);
        return error;
    }
    for (size_t i = 0; i < count; i++) {
        f->SSL_CTX_set_alpn_select_cb(hosts.list[i].context, select_protocol, NULL);
        f->SSL_CTX_set_client_hello_cb(hosts.list[i].context, ws__openssl_on_client_hello, NULL);
    }
    ws__openssl_drop_hosts(openssl, &openssl->hosts);
    openssl->hosts = hosts;
    return WS_OK;
}

bool ws_openssl_has_certificate(const ws_openssl *openssl, const struct ssl_ctx_st *context)
{
    return openssl->functions.SSL_CTX_get0_certificate(context);
}

/* ---- settings ---- */

/* FIPS providers have no X25519, and OpenSSL before 3.5 has no MLKEM. */
static bool set_groups(const ws_openssl_functions *f, struct ssl_ctx_st *context)
{
    static const char *const lists[] = {"X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384",
                                        "P-256:P-384"};
    bool set = false;
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !set; i++)
        set = f->SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0,
                              (void *)(uintptr_t)lists[i]) == 1;
    return set;
}

int ws_openssl_set_defaults(const ws_openssl *openssl, struct ssl_ctx_st *context)
{
    const ws_openssl_functions *f = &openssl->functions;
    const bool set =
        set_groups(f, context) &&
        f->SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL) &&
        f->SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20");
    f->SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    ws__openssl_forget_errors(f);
    return set ? WS_OK : WS_ENOMEM;
}

/* ---- files -------------------------------------------------------------------------------- */

struct password {
    const char *text;
    bool asked;
};

/* A callback that fails; without one, OpenSSL would ask the terminal. */
static int on_password(char *bytes, int size, int encrypts, void *user)
{
    struct password *p = user;
    (void)encrypts;
    if (!p)
        return -1;
    p->asked = true;
    const size_t length = p->text ? strlen(p->text) : 0;
    if (!p->text || length > (size_t)size)
        return -1;
    memcpy(bytes, p->text, length);
    return (int)length;
}

/* Writes "FILE: WHAT (the reason of OpenSSL)". */
static int describe(const ws_openssl_functions *f, char *error, const char *file, const char *what)
{
    const unsigned long code = f->ERR_peek_error();
    const char *reason = code ? f->ERR_reason_error_string(code) : NULL;
    if (reason)
        snprintf(error, WS_OPENSSL_ERROR_SIZE, "%s: %s (%s)", file, what, reason);
    else
        snprintf(error, WS_OPENSSL_ERROR_SIZE, "%s: %s", file, what);
    return WS_EINVAL;
}

static int check_readable(const char *path, char *error)
{
    char byte;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, &byte, 1);
    const int number = errno;
    if (fd >= 0)
        close(fd);
    if (n >= 0)
        return WS_OK;
    snprintf(error, WS_OPENSSL_ERROR_SIZE, "%s: %s", path, strerror(number));
    errno = number;
    return WS_ESYSTEM;
}

static int load_key(const ws_openssl_functions *f, struct ssl_ctx_st *context, const char *file,
                    const char *text, char *error)
{
    struct password password = {.text = text};
    f->SSL_CTX_set_default_passwd_cb(context, on_password);
    f->SSL_CTX_set_default_passwd_cb_userdata(context, &password);
    const int loaded = f->SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM);
    f->SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (loaded)
        return WS_OK;
    if (!password.asked)
        return describe(f, error, file, "there is no usable private key in PEM format");
    if (!text)
        return describe(f, error, file, "the private key is encrypted, and no password was given");
    return describe(f, error, file, "the private key cannot be decrypted with this password");
}

/* The key comes first: a certificate that does not belong to it is taken, and the key removed. */
static int load_files(const ws_openssl_functions *f, struct ssl_ctx_st *context,
                      const char *cert_file, const char *key_file, const char *password,
                      char *error)
{
    int result = check_readable(cert_file, error);
    if (!result)
        result = check_readable(key_file, error);
    if (!result)
        result = load_key(f, context, key_file, password, error);
    if (result)
        return result;
    if (!f->SSL_CTX_use_certificate_chain_file(context, cert_file))
        return describe(f, error, cert_file, "there is no usable certificate in PEM format");
    if (!f->SSL_CTX_check_private_key(context))
        return describe(f, error, key_file, "the private key does not belong to the certificate");
    return WS_OK;
}

int ws_openssl_load_context(const ws_openssl *openssl, const char *cert_file, const char *key_file,
                            const char *password, struct ssl_ctx_st **context,
                            char error[WS_OPENSSL_ERROR_SIZE])
{
    const ws_openssl_functions *f = &openssl->functions;
    ws__openssl_forget_errors(f);
    *context = f->SSL_CTX_new(f->TLS_server_method());
    int result = WS_ENOMEM;
    if (*context && !ws_openssl_set_defaults(openssl, *context))
        result = load_files(f, *context, cert_file, key_file ? key_file : cert_file, password,
                            error);
    else
        snprintf(error, WS_OPENSSL_ERROR_SIZE, "out of memory");
    const int number = errno;
    ws__openssl_forget_errors(f);
    if (!result)
        return WS_OK;
    f->SSL_CTX_free(*context);
    *context = NULL;
    errno = number;
    return result;
}

void ws_openssl_free_context(const ws_openssl *openssl, struct ssl_ctx_st *context)
{
    openssl->functions.SSL_CTX_free(context);
}

#endif
