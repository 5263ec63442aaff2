/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl_linked.c: the addresses of the OpenSSL that the linker finds (-DWS_TLS_OPENSSL). The
 * only file that includes headers of OpenSSL, with which it compares what ws_openssl.h and
 * tls_openssl.h say.
 */
#define WS__OPENSSL_LINKED
#include "tls_openssl.h"
#ifdef WS_TLS_OPENSSL

#define OPENSSL_SUPPRESS_DEPRECATED /* HMAC_Init_ex: 1.1.1 has no other callback for tickets */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "pyws needs OpenSSL 1.1.1 or later"
#endif

#define SAME_NUMBER(number, name) _Static_assert((number) == (name), #name);
WS__OPENSSL_NUMBERS(SAME_NUMBER)

/* OpenSSL 1.1.1 has an unsigned long and a pointer to non-constant here. */
typedef uint64_t set_options(struct ssl_st *, uint64_t);
typedef int i2d(const struct x509_st *, unsigned char **);

static const ws_openssl_functions linked = {
    .size = sizeof linked,
    .OpenSSL_version_num = OpenSSL_version_num,
    .OPENSSL_cleanse = OPENSSL_cleanse,
    .SHA256 = SHA256,
    .RAND_bytes = RAND_bytes,
    .EVP_aes_256_cbc = EVP_aes_256_cbc,
    .EVP_sha256 = EVP_sha256,
    .EVP_CipherInit_ex = EVP_CipherInit_ex,
    .HMAC_Init_ex = HMAC_Init_ex,
    .ERR_clear_error = ERR_clear_error,
    .ERR_peek_error = ERR_peek_error,
    .ERR_reason_error_string = ERR_reason_error_string,
    .BIO_meth_new = BIO_meth_new,
    .BIO_meth_free = BIO_meth_free,
    .BIO_meth_set_read_ex = BIO_meth_set_read_ex,
    .BIO_meth_set_write_ex = BIO_meth_set_write_ex,
    .BIO_meth_set_ctrl = BIO_meth_set_ctrl,
    .BIO_new = BIO_new,
    .BIO_set_init = BIO_set_init,
    .BIO_set_flags = BIO_set_flags,
    .i2d_X509 = (i2d *)(void (*)(void))i2d_X509,
    .X509_free = X509_free,
    .X509_verify_cert_error_string = X509_verify_cert_error_string,
    .TLS_server_method = TLS_server_method,
    .SSL_CTX_new = SSL_CTX_new,
    .SSL_CTX_free = SSL_CTX_free,
    .SSL_CTX_up_ref = SSL_CTX_up_ref,
    .SSL_CTX_ctrl = SSL_CTX_ctrl,
    .SSL_CTX_callback_ctrl = SSL_CTX_callback_ctrl,
    .SSL_CTX_get_verify_mode = SSL_CTX_get_verify_mode,
    .SSL_CTX_get0_certificate = SSL_CTX_get0_certificate,
    .SSL_CTX_set_client_hello_cb = SSL_CTX_set_client_hello_cb,
    .SSL_CTX_set_alpn_select_cb = SSL_CTX_set_alpn_select_cb,
    .SSL_CTX_set_cipher_list = SSL_CTX_set_cipher_list,
    .SSL_CTX_set_default_passwd_cb = SSL_CTX_set_default_passwd_cb,
    .SSL_CTX_set_default_passwd_cb_userdata = SSL_CTX_set_default_passwd_cb_userdata,
    .SSL_CTX_use_certificate_chain_file = SSL_CTX_use_certificate_chain_file,
    .SSL_CTX_use_PrivateKey_file = SSL_CTX_use_PrivateKey_file,
    .SSL_CTX_check_private_key = SSL_CTX_check_private_key,
    .SSL_new = SSL_new,
    .SSL_free = SSL_free,
    .SSL_get_SSL_CTX = SSL_get_SSL_CTX,
    .SSL_set_bio = SSL_set_bio,
    .SSL_set_accept_state = SSL_set_accept_state,
    .SSL_set_read_ahead = SSL_set_read_ahead,
    .SSL_set_msg_callback = SSL_set_msg_callback,
    .SSL_ctrl = SSL_ctrl,
    .SSL_set_options = (set_options *)(void (*)(void))SSL_set_options,
    .SSL_set_session_id_context = SSL_set_session_id_context,
    .SSL_client_hello_get0_ext = SSL_client_hello_get0_ext,
    .SSL_do_handshake = SSL_do_handshake,
    .SSL_read = SSL_read,
    .SSL_has_pending = SSL_has_pending,
    .SSL_write = SSL_write,
    .SSL_shutdown = SSL_shutdown,
    .SSL_get_error = SSL_get_error,
    .SSL_get_verify_result = SSL_get_verify_result,
    .SSL_get_version = SSL_get_version,
    .SSL_get_current_cipher = SSL_get_current_cipher,
    .SSL_CIPHER_get_name = SSL_CIPHER_get_name,
    .SSL_get_servername = SSL_get_servername,
    .SSL_get0_alpn_selected = SSL_get0_alpn_selected,
    .SSL_session_reused = SSL_session_reused,
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    .SSL_get1_peer_certificate = SSL_get1_peer_certificate,
#else
    .SSL_get1_peer_certificate = SSL_get_peer_certificate,
#endif
};

const ws_openssl_functions *ws_openssl_linked(void)
{
    return &linked;
}

#endif
