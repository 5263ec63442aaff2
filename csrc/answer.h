/* SPDX-License-Identifier: MIT */
/*
 * answer.h: responses that are sent in parts: by the application, piece by piece, or from a source.
 */
#ifndef WS__ANSWER_H
#define WS__ANSWER_H

#include "request.h"

/* Sends more of the source of an answer, which may end the answer. */
void ws__answer_continue(ws_request *r);

#endif
