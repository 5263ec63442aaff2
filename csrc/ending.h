/* SPDX-License-Identifier: MIT */
/*
 * ending.h: requests that get no response of the application, or not all of it, and streams of HTTP
 * that end with the server.
 */
#ifndef WS__ENDING_H
#define WS__ENDING_H

#include "request.h"

/* Runs on_aborted, once; whatever the application does with the request then has no effect. */
void ws__ending_abort(ws_request *r);
/* Answers a request, whole or not, which is not answered. An answer that has begun ends early. */
__attribute__((cold)) void ws__ending_refuse(ws_request *r, int status, const char *why);
/* The answer is sent, and the body has ended or is given up: the request is finished. */
void ws__ending_discarded(ws_request *r, bool keep);
/* 503 to a request that has begun; a response on its way may still arrive. */
void ws__ending_shut_down(ws_conn *c);
/* A function of the application that may answer the request, end the stream and shut the server
 * down has returned. */
void ws__ending_after_callback(ws_request *r);

#endif
