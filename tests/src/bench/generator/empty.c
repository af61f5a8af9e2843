/* The least that a generator can be. */
int main(void) { return 0; }
