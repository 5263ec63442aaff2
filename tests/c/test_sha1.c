/* SPDX-License-Identifier: MIT */
/*
 * test_sha1.c: sha1.c against the examples of FIPS 180 and RFC 6455, and against Python's hashlib
 * around the lengths where the padding changes.
 */
#include "guard.h"
#include "sha1.h"
#include "tap.h"

/* hashlib.sha1(bytes((i * 7 + n) % 256 for i in range(n))).hexdigest() */
static const struct {
    size_t n;
    const char *hex;
} lengths[] = {
    {0, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
    {1, "bf8b4530d8d246dd74ac53a13471bba17941dff7"},
    {3, "4201de9f98cb0a9b8cf52398be7802b55d45266a"},
    {54, "7fe50979b12cf9232dda5ca196ac5d968090bc2c"},
    {55, "63ac9708fb581dd150d3647549f9e0cb51dcf1df"},
    {56, "5a0c4d0eb2f15e05bbbff6b8dada9ae767fc03f0"},
    {57, "4e77d3077d2ab5167db3434c31cac3d15a3afc12"},
    {60, "d7e650ba4354d622ad7739885081b6e56d28ebf3"},
    {63, "d94ff3ad53f9b9327704b812ee9c1f3abbba3d48"},
    {64, "5f55a35e13f1865e7ffc22dca1275b1a49b0ff56"},
    {65, "d7f8931010f8342a97383e1410a58c47d057708b"},
    {118, "b348b9a103899a241372402cdc7b44c9bf3a8fcd"},
    {119, "774001b5ad1f46b40c48e1b94cb092c593ead25b"},
    {120, "6ebf3111dc761f11b13f29df0484848785385973"},
    {127, "82d007f6e7e5672722c0717b6bea2ba6f17cd35c"},
    {128, "0a44ac02432f6ead67d86fcb70a4d8ce589e50ec"},
    {129, "461b146c523c63566b8bf8852dc8462116cf2e3f"},
    {1000, "7461968a9edb9b418224f1acb305d2feeaa10ba5"},
};

static void check(const void *data, size_t n, const char *want, const char *what)
{
    uint8_t digest[20];
    char hex[41];
    ws__sha1(guard_copy(data, n), n, digest);
    for (int i = 0; i < 20; i++)
        sprintf(hex + 2 * i, "%02x", digest[i]);
    is_mem(hex, 40, want, strlen(want), "%s, %zu bytes", what, n);
}

static void check_text(const char *text, const char *want, const char *what)
{
    check(text, strlen(text), want, what);
}

static void test_examples(void)
{
    static char million[1000000];
    memset(million, 'a', sizeof million);
    check_text("abc", "a9993e364706816aba3e25717850c26c9cd0d89d", "FIPS 180 one block");
    check_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
               "84983e441c3bd26ebaae4aa1f95129e5e54670f1", "FIPS 180 two blocks");
    check(million, sizeof million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f", "FIPS 180 long");
    check_text("dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
               "b37a4f2cc0624f1690f64606cf385945b2bec4ea", "H10 RFC 6455 1.3 accept key");
}

static void test_lengths(void)
{
    uint8_t data[1000];
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        for (size_t i = 0; i < lengths[k].n; i++)
            data[i] = (uint8_t)(i * 7 + lengths[k].n);
        check(data, lengths[k].n, lengths[k].hex, "hashlib");
    }
}

static void test_null(void)
{
    uint8_t digest[20];
    ws__sha1(NULL, 0, digest);
    is_int(digest[0], 0xda, "NULL is fine for the empty message");
}

static void cases(void)
{
    CASE(test_examples());
    CASE(test_lengths());
    CASE(test_null());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
