/* SPDX-License-Identifier: MIT */
/*
 * bridge_http.c: passes requests to Python handlers, and their answers back, as bridge.c does it
 * with messages. What is not the common case is left to Python (_core/requests.py).
 */
#include "bridge_http.h"
#include "ws_http.h"

static ws_bridge_response *answer_of(void *response)
{
    return ws__bridge_part(response);
}

/* Where the address of the request is; NULL there once the request is over. */
static ws_request **place_of(const ws_bridge_response *answer)
{
    ws_bridge_request *asked = ws__bridge_part(answer->asked);
    return &asked->request;
}

/* Returns NULL once the request is over, and for an object that was never initialized. */
static ws_request *request_of(const ws_bridge_response *answer)
{
    return answer->asked ? *place_of(answer) : NULL;
}

/* ---- from C to Python --------------------------------------------------------------------- */

/* Sets what is still NULL to None. */
static void fill(const ws_bridge *bridge, void **slot, void **end)
{
    for (; slot < end; slot++)
        if (!*slot)
            *slot = ws__bridge_reference(bridge->none);
}

/* Returns NULL with an exception set if there is no memory. */
static void *new_request(const ws_bridge *bridge, ws_request *request)
{
    void *object = ws__python.PyType_GenericAlloc(bridge->request_type, 0);
    if (object) {
        ws_bridge_request *asked = ws__bridge_part(object); /* all of it is 0 */
        asked->request = request;
        asked->runtime = ws__bridge_reference(bridge->runtime);
        fill(bridge, &asked->body, (void **)(asked + 1));
    }
    return object;
}

/* Likewise. */
static void *new_response(const ws_bridge_route *route, ws_request *request)
{
    ws_bridge *bridge = route->bridge;
    void *asked = new_request(bridge, request);
    void *object = asked ? ws__python.PyType_GenericAlloc(bridge->response_type, 0) : NULL;
    void *context = object ? ws__python.PyContext_Copy(bridge->context) : NULL;
    if (context) {
        ws_bridge_response *answer = answer_of(object);
        answer->key = request;
        answer->bridge = bridge;
        answer->status = 200;
        answer->context = context;
        answer->asked = asked;
        answer->route = ws__bridge_reference(route->route);
        answer->runtime = ws__bridge_reference(bridge->runtime);
        fill(bridge, &answer->abort_handler, (void **)(answer + 1));
        return object;
    }
    if (asked)
        ws__python.Py_DecRef(asked);
    if (object)
        ws__python.Py_DecRef(object);
    return NULL;
}

/* Returns what the handler returns, or NULL with an exception set. */
static void *run_handler(const ws_bridge_route *route, void *response)
{
    const ws_bridge_response *answer = answer_of(response);
    void *context = answer->context, *args[] = {NULL, response, answer->asked};
    if (ws__python.PyContext_Enter(context))
        return NULL;
    route->bridge->current = response;
    void *result = ws__bridge_call(route->request, args + 1, 2);
    route->bridge->current = NULL;
    if (ws__python.PyContext_Exit(context) && result) {
        ws__python.Py_DecRef(result);
        return NULL;
    }
    return result;
}

/* Leaves to Python what is not the common case. */
__attribute__((cold)) static void leave_to_python(const ws_bridge *bridge, void *response,
                                                  void *result)
{
    void *what = result ? ws__bridge_reference(result) : ws__bridge_take_exception();
    if (!ws__bridge_notify(result ? bridge->handled : bridge->raised, response, what)) {
        void *second = ws__bridge_take_exception(); /* of a signal handler */
        if (!ws__bridge_notify(bridge->raised, response, second))
            ws__python.PyErr_WriteUnraisable(bridge->raised);
        ws__python.Py_DecRef(second);
    }
    ws__python.Py_DecRef(what);
}

void ws_bridge_on_request(ws_request *request, void *user)
{
    const ws_bridge_route *route = user;
    const ws_bridge *bridge = route->bridge;
    void *response = new_response(route, request);
    if (!response) { /* the client gets a 500 */
        ws__python.PyErr_WriteUnraisable(bridge->handled);
        return;
    }
    ws_bridge_response *answer = answer_of(response);
    void *result = run_handler(route, response);
    if (!answer->responded || answer->deferred || answer->parts != bridge->none ||
        (result != bridge->none && result != response))
        leave_to_python(bridge, response, result);
    ws_request **place = place_of(answer);
    if (!answer->deferred) {
        answer->responded |= !answer->aborted; /* otherwise with a 500 */
        *place = NULL;
    } else if (*place) { /* `exchanges` has the response */
        ws_request_track(request, place);
    }
    if (result)
        ws__python.Py_DecRef(result);
    ws__python.Py_DecRef(response);
}

/* ---- from Python to C --------------------------------------------------------------------- */

/* Answers, after which a deferred request may be freed at any time: its address is gone before
 * Python can be interrupted. Returns what ws_request_respond returns. */
static int give_answer(const ws_bridge_response *answer, const char *reason, const char *body,
                       ptrdiff_t length)
{
    ws_request **place = place_of(answer), *request = *place;
    if (answer->deferred)
        ws_request_track(request, NULL);
    int error = ws_request_respond(request, answer->status, reason, body, (size_t)length);
    if (answer->deferred && error == WS_EINVAL) /* nothing has happened */
        ws_request_track(request, place);
    else if (answer->deferred)
        *place = NULL;
    return error;
}

static bool is_plain(const ws_bridge *bridge, const ws_bridge_response *answer)
{
    return request_of(answer) && !answer->responded && !answer->aborted &&
           answer->headers == bridge->none && answer->parts == bridge->none &&
           answer->reason == bridge->none && ws__bridge_owns(bridge);
}

void *ws_bridge_end(void *self, void *const *args, ptrdiff_t count, void *names)
{
    ws_bridge_response *answer = answer_of(self);
    const ws_bridge *bridge = answer->bridge;
    const char *data;
    ptrdiff_t length;
    if (!bridge) {
        ws__python.PyErr_BadArgument();
        return NULL;
    }
    void *values[] = {count == 1 ? args[0] : NULL, bridge->none, bridge->flag[0]};
    if (!values[0] || names || !is_plain(bridge, answer) ||
        !ws__bridge_prepare(bridge, values, &data, &length))
        return ws__bridge_call_method(bridge->end, self, args, count, names);
    answer->last = false;
    int error = give_answer(answer, NULL, data, length);
    if (!error && !answer->deferred) {
        answer->responded = true;
        return ws__bridge_reference(self);
    }
    void *number = ws__python.PyLong_FromUnsignedLong((unsigned long)-error);
    if (!number)
        return NULL;
    void *result = ws__bridge_call_method(bridge->ended, self, &number, 1, NULL);
    ws__python.Py_DecRef(number);
    return result;
}

/* Passes on the names and values that follow the body. Returns WS_OK, or another ws_error. */
static int add_fields(ws_request *request, void *const *args, ptrdiff_t count)
{
    int error = WS_OK;
    for (ptrdiff_t i = 1; i + 1 < count && !error; i += 2) {
        char *name, *value;
        ptrdiff_t name_length, value_length;
        if (ws__python.PyBytes_AsStringAndSize(args[i], &name, &name_length) ||
            ws__python.PyBytes_AsStringAndSize(args[i + 1], &value, &value_length)) {
            ws__python.PyErr_Clear();
            return WS_EINVAL;
        }
        error = ws_request_add_header(request, name, (size_t)name_length, value,
                                      (size_t)value_length);
    }
    return error;
}

void *ws_bridge_respond(void *self, void *const *args, ptrdiff_t count, void *names)
{
    const ws_bridge_response *answer = answer_of(self);
    char *body, *reason = NULL;
    ptrdiff_t length, reason_length;
    ws_request *request = request_of(answer);
    if (count < 1 || names || !request) {
        ws__python.PyErr_BadArgument();
        return NULL;
    }
    if (ws__python.PyBytes_AsStringAndSize(args[0], &body, &length) ||
        (answer->reason != answer->bridge->none &&
         ws__python.PyBytes_AsStringAndSize(answer->reason, &reason, &reason_length)))
        return NULL;
    int error = add_fields(request, args, count);
    if (error == WS_ENOMEM) /* the other fields would be sent with the answer to the error */
        ws_request_abort(request);
    if (!error && answer->last)
        ws_request_close_after(request);
    if (!error)
        error = give_answer(answer, reason, body, length);
    return ws__python.PyLong_FromUnsignedLong((unsigned long)-error);
}
