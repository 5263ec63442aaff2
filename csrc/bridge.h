/* bridge.h: a ws_behavior.on_message and a loop for handlers written in Python, without Python.h.
 *
 * For the Python package alone, which calls it through ctypes and makes all objects and structs
 * below (they are borrowed for as long as the server lives). PyObject * and PyThreadState * are
 * void * here: of both this code knows the address only. Everything but ws_bridge_after_wait, which
 * takes the GIL back, is called with the GIL held.
 * C programs leave bridge.c out.
 */
#ifndef WS_BRIDGE_H
#define WS_BRIDGE_H

#include "ws.h"

/* Functions of the interpreter in this process; see its C API for what they do. */
typedef struct ws_python {
    void (*Py_IncRef)(void *object);
    void (*Py_DecRef)(void *object);
    void *(*PyObject_Type)(void *object);
    void *(*PyBytes_FromStringAndSize)(const char *data, ptrdiff_t length);
    int (*PyBytes_AsStringAndSize)(void *object, char **data, ptrdiff_t *length);
    void *(*PyUnicode_DecodeUTF8)(const char *data, ptrdiff_t length, const char *errors);
    const char *(*PyUnicode_AsUTF8AndSize)(void *object, ptrdiff_t *length);
    /* Or PyObject_VectorcallDict: `names` is always NULL. */
    void *(*PyObject_Vectorcall)(void *callable, void *const *args, size_t count, void *names);
    void *(*PyObject_VectorcallMethod)(void *name, void *const *args, size_t count, void *names);
    ptrdiff_t (*PyTuple_Size)(void *tuple);
    void *(*PyTuple_GetItem)(void *tuple, ptrdiff_t index); /* borrowed */
    void *(*PyErr_GetRaisedException)(void); /* NULL before Python 3.12: then the next three */
    void (*PyErr_Fetch)(void **type, void **value, void **traceback);
    void (*PyErr_NormalizeException)(void **type, void **value, void **traceback);
    int (*PyException_SetTraceback)(void *exception, void *traceback);
    void (*PyErr_Clear)(void);
    void (*PyErr_WriteUnraisable)(void *where);
    int (*PyErr_BadArgument)(void);
    int (*PyContext_Enter)(void *context);
    int (*PyContext_Exit)(void *context);
    void *(*PyEval_SaveThread)(void);
    void (*PyEval_RestoreThread)(void *thread);
} ws_python;

/* One server: ws_config.user. */
typedef struct ws_bridge {
    unsigned long owner; /* pthread_self() of the thread that may touch the server; 0: none may */
    void *thread;        /* its state, while it waits without the GIL */
    void *none;          /* None */
    void *str_type;      /* str */
    void *bytes_type;    /* bytes */
    void *text;          /* OpCode.TEXT */
    void *binary;        /* OpCode.BINARY */
    void *status[3];     /* SendStatus.BACKPRESSURE, SUCCESS, DROPPED */
    void *flag[2];       /* False, True */
    void *compress;      /* "compress", as calls with that name have it: interned */
    void *send;          /* name of the method that ws_bridge_send leaves the rest to */
    void *failed;        /* failed(socket, exception): the message handler has raised it */
    void *returned;      /* returned(socket, result): it has returned something but None */
} ws_bridge;

/* One route: ws_behavior.user. */
typedef struct ws_bridge_route {
    ws_bridge *bridge;
    void *message; /* handler(socket, message, opcode) */
    void (*closed)(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                   void *user); /* on_closed in Python */
} ws_bridge_route;

/* What a WebSocket object holds behind its header; the object is ws_conn_user. */
typedef struct ws_bridge_socket {
    ws_conn *conn;     /* NULL once it has closed */
    ws_bridge *bridge; /* NULL until it is made */
    void *context;     /* contextvars.Context in which its handlers run; borrowed from the object */
} ws_bridge_socket;

/* Once per process, before all else. `functions` is copied, `size` is sizeof(ws_python) of the
 * caller; `header` is the size of an object's header, behind which ws_bridge_socket lies.
 * WS_EABI. */
WS_API int ws_bridge_setup(const ws_python *functions, size_t size, size_t header);

/* ws_config.before_wait, after_wait, ws_behavior.on_message and on_closed. */
WS_API void ws_bridge_before_wait(void *user);
WS_API void ws_bridge_after_wait(void *user);
WS_API void ws_bridge_on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user);
WS_API void ws_bridge_on_closed(ws_conn *conn, bool clean, int code, const char *reason,
                                size_t length, void *user);

/* WebSocket.send of Python, as METH_FASTCALL | METH_KEYWORDS: whole messages of str and bytes go
 * to ws_conn_send, everything else to the method called ws_bridge.send. */
WS_API void *ws_bridge_send(void *self, void *const *args, ptrdiff_t count, void *names);

#endif
